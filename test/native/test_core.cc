#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "native/core/status.h"
#include "native/core/task_thread.h"
#include "test/native/check.h"

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

TEST_MAIN()
