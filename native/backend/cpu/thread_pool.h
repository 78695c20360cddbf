// Threads of one CPU device. A job is cut into chunks of outputs; which thread takes which chunk never shows in a result.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace himap {

class ThreadPool {
 public:
  /** `threads` in all, the caller's included; at least 1. Throws std::system_error where the system refuses a thread. */
  explicit ThreadPool(int32_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int32_t threads() const { return static_cast<int32_t>(workers_.size()) + 1; }

  /**
   * fn(begin, end, thread) over [0, n) in chunks of `grain`; thread is in [0, threads()). Returns when all is done; the
   * first exception of a chunk is thrown here. One caller at a time.
   */
  template <class Fn>
  void parallel_for(int64_t n, int64_t grain, const Fn& fn) {
    if (n <= 0) return;
    grain = std::max<int64_t>(grain, 1);
    if (workers_.empty() || n <= grain) {
      fn(int64_t{0}, n, int32_t{0});
      return;
    }
    run({[](const void* context, int64_t begin, int64_t end, int32_t thread) {
           (*static_cast<const Fn*>(context))(begin, end, thread);
         },
         &fn, n, grain});
  }

 private:
  struct Job {
    void (*call)(const void* context, int64_t begin, int64_t end, int32_t thread);
    const void* context;
    int64_t n;
    int64_t grain;
  };

  void run(const Job& job);
  void work(int32_t thread) noexcept;
  void take_chunks(int32_t thread) noexcept;
  void stop() noexcept;

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable started_;
  std::condition_variable finished_;
  std::atomic<uint64_t> generation_{0};  // raised, under the mutex, with every job and to stop
  std::atomic<int32_t> active_{0};       // workers inside the job; changed under the mutex
  bool open_ = false;                    // a worker that wakes late must not enter a job that is over
  bool stopping_ = false;
  Job job_{};
  std::atomic<int64_t> next_{0};
  std::exception_ptr failure_;
};

}  // namespace himap
