// The CPU backend's device: opening, refusals, memory, threads, and the functions of a vector.
#include <atomic>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <utility>

#include "native/backend/cpu/device.h"
#include "native/backend/cpu/scratch.h"
#include "native/backend/cpu/thread_pool.h"
#include "test/native/cpu_fixture.h"

using namespace himap;
using namespace himap::test;

TEST("every function of the table is there") {
  const BackendApi& api = *himap_backend();
  CHECK_EQ(api.abi, kBackendAbi);
  CHECK_EQ(std::string(api.name), std::string("cpu"));
  const void* functions[(sizeof(BackendApi) - offsetof(BackendApi, probe)) / sizeof(void*)];
  std::memcpy(functions, reinterpret_cast<const char*>(&api) + offsetof(BackendApi, probe), sizeof(functions));
  int32_t missing = 0;
  for (const void* function : functions) missing += function == nullptr;
  CHECK_EQ(missing, 4);  // those of graphs
  CHECK(!api.graph_begin && !api.graph_end && !api.graph_launch && !api.graph_release);
}

TEST("the environment chooses the instruction set, and an unknown one is refused") {
  for (const char* set : sets()) CHECK_EQ(std::string(Cpu(set).info.detail), std::string(set));
  const BackendApi& api = *himap_backend();
  setenv("HIMAP_CPU", "sse9", 1);
  Device* device = nullptr;
  char reason[256] = "";
  CHECK_EQ(api.open(nullptr, &device, nullptr, reason, sizeof(reason)), static_cast<int32_t>(Code::ERR_INVALID_ARG));
  CHECK(std::string(reason).find("portable") != std::string::npos);
  CHECK(std::string(reason).find("sse9") != std::string::npos);
  CHECK(device == nullptr);
  char detail[16];
  CHECK_EQ(api.probe(reason, 5, detail, sizeof(detail)), static_cast<int32_t>(Code::ERR_INVALID_ARG));
  CHECK_EQ(std::strlen(reason), size_t{4});
  unsetenv("HIMAP_CPU");
  CHECK_EQ(api.probe(reason, sizeof(reason), detail, sizeof(detail)), 0);
  CHECK_EQ(std::string(detail), std::string(sets().back()));
}

TEST("threads: one per processor by default, a number where asked, nonsense refused") {
  CHECK(Cpu("portable", 0).info.threads >= 1);
  CHECK_EQ(Cpu("portable", 3).info.threads, 3);
  CHECK(Cpu("portable", -1).device == nullptr);
  CHECK(Cpu("portable", 100000).device == nullptr);
}

/** A folder with the files of a system, as /proc and /sys show them. */
class FakeSystem {
 public:
  FakeSystem() { root = mkdtemp(name_); }
  ~FakeSystem() { std::filesystem::remove_all(root); }
  void write(const std::string& path, const std::string& text) const {
    const std::filesystem::path full = root + path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  std::pair<int64_t, int64_t> memory() const {
    int64_t free = 0;
    int64_t total = 0;
    system_memory(free, total, root);
    return {free, total};
  }
  std::string root;

 private:
  char name_[24] = "/tmp/himap-test-XXXXXX";
};

TEST("processors: those it may run on, or a control group's quota where that is less") {
  const FakeSystem system;
  const int32_t all = system_processors(system.root);
  CHECK(all >= 1);
  system.write("/proc/self/cgroup", "0::/jobs/one\n");
  system.write("/sys/fs/cgroup/jobs/one/cpu.max", "max 100000\n");
  CHECK_EQ(system_processors(system.root), all);
  system.write("/sys/fs/cgroup/jobs/cpu.max", "150000 100000\n");
  CHECK_EQ(system_processors(system.root), std::min(all, 2));
  system.write("/sys/fs/cgroup/jobs/one/cpu.max", "20000 100000\n");
  CHECK_EQ(system_processors(system.root), 1);

  // Version 1, where the container sees its own group as the first one.
  const FakeSystem old;
  old.write("/proc/self/cgroup", "9:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n");
  old.write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  old.write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  CHECK_EQ(system_processors(old.root), all);
  old.write("/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us", "100000\n");
  old.write("/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us", "100000\n");
  CHECK_EQ(system_processors(old.root), 1);
}

TEST("free memory: the system's, or what a control group leaves of it") {
  using Memory = std::pair<int64_t, int64_t>;
  const FakeSystem system;
  const BackendApi& api = *himap_backend();
  try {
    system.memory();
    CHECK(!"a system that tells nothing");
  } catch (const Error& error) {
    CHECK(error.code == Code::ERR_INTERNAL);
  }
  system.write("/proc/meminfo", "MemTotal:     1000 kB\nMemFree:  10 kB\nMemAvailable:      600 kB\nHugePages_Total: 0\n");
  CHECK(system.memory() == Memory(600 << 10, 1000 << 10));

  // Version 2: the group's own limit, less what it cannot give back; the one above has none.
  system.write("/proc/self/cgroup", "0::/jobs/one\n");
  system.write("/sys/fs/cgroup/jobs/memory.max", "max\n");
  system.write("/sys/fs/cgroup/jobs/memory.current", "500000\n");
  system.write("/sys/fs/cgroup/jobs/one/memory.max", "400000\n");
  system.write("/sys/fs/cgroup/jobs/one/memory.current", "300000\n");
  system.write("/sys/fs/cgroup/jobs/one/memory.stat", "anon 1\ninactive_file 100000\nactive_file 20000\n");
  CHECK(system.memory() == Memory(220000, 400000));
  system.write("/sys/fs/cgroup/jobs/memory.max", "510000\n");
  CHECK(system.memory() == Memory(10000, 400000));

  // Version 1, where the container sees its own group as the first one.
  system.write("/proc/self/cgroup", "9:cpu:/\n4:memory:/docker/abc\n");
  system.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "300000\n");
  system.write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "400000\n");
  system.write("/sys/fs/cgroup/memory/memory.stat", "total_inactive_file 50000\n");
  CHECK(system.memory() == Memory(0, 300000));

  Memory real{-1, -1};
  CHECK_EQ(api.memory(&real.first, &real.second), 0);
  CHECK(real.first >= 0 && real.first <= real.second && real.second > 0);
}

TEST("memory is taken when it is touched, and refused when there is none") {
  Cpu cpu("portable");
  void* buffer = nullptr;
  CHECK_OK(cpu, cpu.api.allocate(cpu.device, size_t{1} << 36, &buffer));  // 64 GiB of address space
  static_cast<char*>(buffer)[(size_t{1} << 36) - 1] = 1;
  cpu.api.release(cpu.device, buffer);
  CHECK_REFUSED(cpu, cpu.api.allocate(cpu.device, size_t{1} << 60, &buffer), Code::ERR_OUT_OF_MEMORY, "allocate");
  CHECK(buffer == nullptr);
  CHECK_REFUSED(cpu, cpu.api.allocate(cpu.device, 0, &buffer), Code::ERR_INVALID_ARG, "allocate");
  cpu.api.release(cpu.device, nullptr);
  cpu.api.release(cpu.device, &buffer);  // not ours: left alone
  CHECK_OK(cpu, cpu.api.allocate(cpu.device, 100, &buffer));  // close gives it back
  const float values[3] = {1, 2, 3};
  float back[3];
  CHECK_OK(cpu, cpu.api.upload_activations(cpu.device, buffer, values, 3));
  CHECK_OK(cpu, cpu.api.download_activations(cpu.device, back, buffer, 3));
  CHECK_EQ(std::memcmp(values, back, sizeof(values)), 0);
  CHECK_REFUSED(cpu, cpu.api.upload(cpu.device, nullptr, values, 4), Code::ERR_INVALID_ARG, "copy");
  CHECK_OK(cpu, cpu.api.download(cpu.device, nullptr, nullptr, 0));
}

TEST("weights that cannot be are refused") {
  Cpu cpu("portable");
  const float data[64] = {};
  Weight* weight = nullptr;
  const auto refused = [&](std::vector<WeightPart> parts, WeightLayout layout) {
    CHECK_REFUSED(cpu, cpu.api.weight_import(cpu.device, parts.data(), static_cast<int32_t>(parts.size()), layout, &weight),
                  Code::ERR_INVALID_ARG, "weight_import");
    CHECK(weight == nullptr);
  };
  const auto part = [&](int64_t out, int64_t in) { return WeightPart{data, DType::kF32, out, in}; };
  refused({}, WeightLayout::kStacked);
  refused({{nullptr, DType::kF32, 8, 8}}, WeightLayout::kStacked);
  refused({{data, static_cast<DType>(7), 8, 8}}, WeightLayout::kStacked);
  refused({part(0, 8)}, WeightLayout::kStacked);
  refused({part(8, -8)}, WeightLayout::kStacked);
  refused({part(4, 8), part(4, 4)}, WeightLayout::kStacked);
  refused({part(4, 8)}, WeightLayout::kGateUp);
  refused({part(4, 8), part(2, 8)}, WeightLayout::kGateUp);
  refused({part(8, 8)}, static_cast<WeightLayout>(2));
}

TEST("no call without a device or without parameters ends the process") {
  const BackendApi& api = *himap_backend();
  Cpu cpu("portable");
  const auto both = [&](auto function) {
    CHECK_EQ(function(nullptr, nullptr), static_cast<int32_t>(Code::ERR_INVALID_ARG));
    CHECK_REFUSED(cpu, function(cpu.device, nullptr), Code::ERR_INVALID_ARG, "backend");
  };
  both(api.patch_embed);
  both(api.embed);
  both(api.norm);
  both(api.linear);
  both(api.logits);
  both(api.rope_kv);
  both(api.attention_prefill);
  both(api.attention_decode);
  both(api.select);
  both(api.gather);
  both(api.candidates);
  CHECK(api.last_error(nullptr) != nullptr);
  api.close(nullptr);
  api.weight_release(nullptr, nullptr);
}

TEST("every chunk of a job runs once, on every number of threads") {
  for (int32_t threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (int64_t n : {0, 1, 2, 7, 64, 1000}) {
      for (int64_t grain : {1, 3, 64}) {
        std::vector<std::atomic<int>> runs(static_cast<size_t>(n));
        std::atomic<bool> strange{false};
        pool.parallel_for(n, grain, [&](int64_t begin, int64_t end, int32_t thread) {
          if (thread < 0 || thread >= threads || begin >= end) strange = true;
          for (int64_t i = begin; i < end; ++i) ++runs[static_cast<size_t>(i)];
        });
        for (const std::atomic<int>& count : runs) CHECK_EQ(count.load(), 1);
        CHECK(!strange);
      }
    }
  }
}

TEST("many short jobs follow each other, and an exception of one reaches its caller only") {
  ThreadPool pool(3);
  std::atomic<int64_t> total{0};
  for (int job = 0; job < 20000; ++job) {
    pool.parallel_for(4, 1, [&](int64_t begin, int64_t, int32_t) { total += begin; });
  }
  CHECK_EQ(total.load(), int64_t{20000} * 6);
  bool thrown = false;
  try {
    pool.parallel_for(100, 1, [](int64_t begin, int64_t, int32_t) {
      if (begin == 40) throw std::runtime_error("chunk");
    });
  } catch (const std::runtime_error&) {
    thrown = true;
  }
  CHECK(thrown);
  int64_t after = 0;
  pool.parallel_for(1, 1, [&](int64_t, int64_t, int32_t) { after = 1; });
  CHECK_EQ(after, int64_t{1});
}

TEST("exp: relative error below 2e-7, right at the ends") {
  for (const char* set : sets()) {
    const CpuKernels& kernels = kernels_of(set);
    const auto exp_of = [&](float x) { return kernels.exp_sum(&x, 1, 0); };
    double worst = 0;
    for (int i = 0; i <= 400000; ++i) {
      const float x = -87.0f + static_cast<float>(i) * (175.0f / 400000);
      const double exact = std::exp(static_cast<double>(x));
      worst = std::max(worst, std::fabs(exp_of(x) - exact) / exact);
    }
    if (worst >= 2e-7) report(__FILE__, __LINE__, std::string(set) + ": worst error " + std::to_string(worst * 1e7) + "e-7");
    for (float x = -104; x < -87; x += 0.01f) CHECK(std::fabs(exp_of(x) - std::exp(static_cast<double>(x))) <= 2.9e-45);
    CHECK_EQ(exp_of(0), 1.0f);
    CHECK_EQ(exp_of(-kInf), 0.0f);
    CHECK_EQ(exp_of(-1e30f), 0.0f);
    CHECK_EQ(exp_of(kInf), kInf);
    CHECK_EQ(exp_of(89), kInf);
    CHECK(std::isnan(exp_of(kNan)));
  }
}

TEST("storage types: every 16-bit number and every rounding") {
  for (const char* set : sets()) {
    const CpuKernels& kernels = kernels_of(set);
    for (DType type : {DType::kF16, DType::kBF16}) {
      const int exponent_bits = type == DType::kF16 ? 5 : 8;
      std::vector<uint16_t> bits(65536);
      for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
      Fenced<float> wide(65536);
      kernels.load_row(bits.data(), type, 65536, wide.data());
      CHECK(wide.intact());
      int wrong = 0;
      std::vector<float> values;
      for (int32_t i = 0; i < 65536; ++i) {
        const double exact = decode_half(static_cast<uint16_t>(i), exponent_bits);
        if (std::isnan(exact) ? !std::isnan(wide[i]) : wide[i] != exact || std::signbit(wide[i]) != std::signbit(exact)) ++wrong;
        if (std::isnan(exact)) continue;
        // The number itself, and the middle between it and the next, exactly and one step to each side.
        values.push_back(wide[i]);
        if ((i & 0x7fff) + 1 > (type == DType::kF16 ? 0x7c00 : 0x7f80)) continue;
        const float next = (i & 0x7fff) + 1 == (type == DType::kF16 ? 0x7c00 : 0x7f80)
                               ? 2 * wide[i] - wide[i - 1]
                               : static_cast<float>(decode_half(static_cast<uint16_t>(i + 1), exponent_bits));
        const auto middle = static_cast<float>((static_cast<double>(wide[i]) + next) / 2);
        for (float value : {middle, std::nextafterf(middle, 0), std::nextafterf(middle, next * 2)}) values.push_back(value);
      }
      CHECK_EQ(wrong, 0);
      values.push_back(kInf);
      values.push_back(1e-30f);
      values.push_back(-1e38f);
      Fenced<uint16_t> half(static_cast<int64_t>(values.size()));
      kernels.store_row(values.data(), half.size(), half.data(), type);
      CHECK(half.intact());
      for (size_t i = 0; i < values.size(); ++i) {
        if (half[static_cast<int64_t>(i)] != encode_half(values[i], exponent_bits) && ++wrong < 5) {
          report(__FILE__, __LINE__, std::string(set) + " " + type_name(type) + ": " + std::to_string(values[i]) + " became " +
                                         std::to_string(half[static_cast<int64_t>(i)]));
        }
      }
      CHECK_EQ(wrong, 0);
      uint16_t nan = 0;
      kernels.store_row(&kNan, 1, &nan, type);
      CHECK(std::isnan(decode_half(nan, exponent_bits)));
    }
  }
}

TEST("scratch is what its layout says") {
  CHECK(thread_scratch_bytes(128) < size_t{2} << 20);
  CHECK(thread_scratch_bytes(1024) > thread_scratch_bytes(128));
  static_assert(AttentionScratchLayout(40).floats > 0, "a constant of the head size");
}

TEST_MAIN()
