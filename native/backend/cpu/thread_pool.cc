#include "native/backend/cpu/thread_pool.h"

namespace himap {
namespace {

// Operations of a step follow each other within microseconds: a short look saves most sleeps and costs an idle engine
// nothing.
constexpr int kSpins = 400;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

template <class Done>
bool spin_until(const Done& done) {
  for (int i = 0; i < kSpins; ++i) {
    if (done()) return true;
    pause();
  }
  return done();
}

}  // namespace

ThreadPool::ThreadPool(int32_t threads) {
  try {
    for (int32_t i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (...) {
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() noexcept {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    generation_.fetch_add(1, std::memory_order_release);
  }
  started_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

void ThreadPool::run(const Job& job) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    job_ = job;
    next_.store(0, std::memory_order_relaxed);
    failure_ = nullptr;
    open_ = true;
    generation_.fetch_add(1, std::memory_order_release);
  }
  started_.notify_all();
  take_chunks(0);
  std::unique_lock<std::mutex> lock(mutex_);
  open_ = false;
  if (active_.load(std::memory_order_relaxed) > 0) {
    lock.unlock();
    spin_until([this] { return active_.load(std::memory_order_acquire) == 0; });
    lock.lock();
    finished_.wait(lock, [this] { return active_.load(std::memory_order_relaxed) == 0; });
  }
  if (failure_) {
    const std::exception_ptr failure = failure_;
    failure_ = nullptr;
    std::rethrow_exception(failure);
  }
}

void ThreadPool::take_chunks(int32_t thread) noexcept {
  for (;;) {
    const int64_t begin = next_.fetch_add(job_.grain, std::memory_order_relaxed);
    if (begin >= job_.n) return;
    try {
      job_.call(job_.context, begin, std::min(begin + job_.grain, job_.n), thread);
    } catch (...) {
      next_.store(job_.n, std::memory_order_relaxed);
      std::lock_guard<std::mutex> lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
  }
}

void ThreadPool::work(int32_t thread) noexcept {
  uint64_t seen = 0;
  for (;;) {
    spin_until([&] { return generation_.load(std::memory_order_acquire) != seen; });
    std::unique_lock<std::mutex> lock(mutex_);
    started_.wait(lock, [&] { return generation_.load(std::memory_order_relaxed) != seen; });
    seen = generation_.load(std::memory_order_relaxed);
    if (stopping_) return;
    if (!open_) continue;
    active_.fetch_add(1, std::memory_order_relaxed);
    lock.unlock();
    take_chunks(thread);
    lock.lock();
    if (active_.fetch_sub(1, std::memory_order_release) == 1) finished_.notify_one();
  }
}

}  // namespace himap
