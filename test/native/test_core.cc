#include <elf.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "native/backend/library_file.h"
#include "native/core/number.h"
#include "native/core/status.h"
#include "native/core/task_thread.h"
#include "native/image/resize.h"
#include "native/model/manifest.h"
#include "test/native/check.h"
#include "test/native/comma_locale.h"

using namespace himap;

TEST("one thread runs tasks in the order of the posts") {
  std::vector<int> order;
  std::atomic<bool> done{false};
  TaskThread thread;
  for (int i = 0; i < 1000; ++i) CHECK(thread.post([&order, i] { order.push_back(i); }));
  thread.post([&done] { done = true; });
  while (!done) std::this_thread::yield();
  CHECK_EQ(order.size(), size_t{1000});
  for (int i = 0; i < 1000; ++i) CHECK_EQ(order[static_cast<size_t>(i)], i);
}

TEST("a task that throws does not end the thread") {
  std::atomic<int> ran{0};
  TaskThread thread;
  thread.post([] { throw std::runtime_error("thrown on purpose"); });
  thread.post([] { throw 1; });
  thread.post([&ran] { ++ran; });
  while (ran == 0) std::this_thread::yield();
  CHECK_EQ(ran.load(), 1);
}

TEST("stopping waits for what runs, drops what waits, and every task is destroyed") {
  for (int round = 0; round < 200; ++round) {
    auto counted = std::make_shared<int>(0);
    std::atomic<int> running{0};
    {
      TaskThread threads(3);
      for (int i = 0; i < 20; ++i) {
        threads.post([counted, &running] {
          ++running;
          std::this_thread::sleep_for(std::chrono::microseconds(50));
          --running;
        });
      }
      std::thread other([&threads] { threads.stop(); });  // two callers, both wait
      threads.stop();
      CHECK_EQ(running.load(), 0);
      CHECK(!threads.post([counted] {}));
      other.join();
    }
    CHECK_EQ(counted.use_count(), 1L);
  }
}

TEST("every code has a name") {
  CHECK_EQ(std::string(code_name(Code::ERR_INVALID_ARG)), std::string("ERR_INVALID_ARG"));
  CHECK_EQ(std::string(code_name(Code::ERR_INTERNAL)), std::string("ERR_INTERNAL"));
  CHECK_EQ(std::string(code_name(static_cast<Code>(999))), std::string("ERR_INTERNAL"));
}

/** What check_library_file says of a file of these bytes, "" where nothing. */
std::string library_fault(const std::string& bytes) {
  char path[] = "/tmp/himap-library-XXXXXX";
  const int descriptor = mkstemp(path);
  std::string said;
  if (descriptor < 0 || write(descriptor, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) said = "not written";
  try {
    check_library_file(path);
  } catch (const Error& error) {
    said = error.code == Code::ERR_NO_BINARY ? error.message : "another code";
  }
  close(descriptor);
  unlink(path);
  return said;
}

TEST("a library's file that is damaged is refused before it is opened") {
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_shoff = 1000;
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = 10;
  std::string file(reinterpret_cast<const char*>(&header), sizeof(header));
  file.resize(1000 + 10 * sizeof(Elf64_Shdr));
  CHECK_EQ(library_fault(file), std::string());
  CHECK(library_fault(file.substr(0, file.size() - 1)).find("must have 1640 bytes; got its first 1639") != std::string::npos);
  CHECK(library_fault(file.substr(0, 63)).find("something else") != std::string::npos);
  CHECK(library_fault("").find("0 bytes of something else") != std::string::npos);
  CHECK(library_fault("#!" + file).find("something else") != std::string::npos);
  bool refused = false;
  try {
    check_library_file("/nowhere/libhimap-cpu.so");
  } catch (const Error& error) {
    refused = error.message.find("does not exist") != std::string::npos;
  }
  CHECK(refused);
}

/** A manifest without tensors. */
std::string manifest_with(const std::string& eps, const std::string& theta) {
  return "himap-manifest 1\nconfig hidden 16\nconfig ffn 24\nconfig layers 1\nconfig heads 2\nconfig kvHeads 2\nconfig headDim 8\n"
         "config vocabulary 40\nconfig rmsEps " + eps + "\nconfig ropeTheta " + theta + "\nconfig maxPositions 96\n"
         "config imageTokens 4\nconfig vision.hidden 16\nconfig vision.ffn 24\nconfig vision.layers 1\nconfig vision.heads 2\n"
         "config vision.imageSize 28\nconfig vision.patchSize 14\nconfig vision.eps 1e-5\nconfig vision.activation gelu\n"
         "config vision.keepClass false\nend\n";
}

template <class Work>
std::string refusal(const Work& work) {
  try {
    work();
    return "nothing";
  } catch (const Error& error) {
    return error.message;
  }
}

/** Everything that reads or writes a fraction. */
void check_fractions() {
  const ModelConfig config = parse_manifest(manifest_with("0.00001", "10000.5")).config;
  CHECK(config.rms_eps == 1e-5f && config.rope_theta == 10000.5 && config.vision.eps == 1e-5f);
  CHECK_EQ(refusal([] { parse_manifest(manifest_with("0,1", "10000")); }),
           std::string("[manifest] line 9: expected a number from 0 to 1 for rmsEps but received 0,1"));
  CHECK_EQ(refusal([] { parse_manifest(manifest_with("0.1", "0.5")); }),
           std::string("[manifest] line 10: expected a number from 1 to 1000000000000 for ropeTheta but received 0.5"));
  const uint8_t pixel[3] = {};
  PreprocessParams params{pixel, 3, 1, 1, 3, Geometry::kPad, 1, {0.5, 0.5, 1.5}, {1, 1, 1}};
  CHECK_EQ(refusal([&] { preprocess(params); }), std::string("[preprocess] expected 0 to 1 for mean but received 1.5"));
  params.mean[2] = 0.5;
  params.std[0] = 0.0000005;
  CHECK_EQ(refusal([&] { preprocess(params); }),
           std::string("[preprocess] expected 1e-06 to 1000000 for std but received 5e-07"));
  for (const char* none : {"", " ", "1 ", "1.5x", "x"}) CHECK(!parse_number(none));
}

TEST("fractions are read and written with a point") { check_fractions(); }

TEST("and so under a locale of the host's that has a comma") {
  const test::CommaLocale locale;
  if (!locale.set()) return test::skip("localedef is needed to make a locale with a comma");
  check_fractions();
  CHECK_EQ(std::to_string(0.5), std::string("0,500000"));  // the locale is in force, and has been left so
}

TEST_MAIN()
