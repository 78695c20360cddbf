#include "native/core/task_thread.h"

#include <string>
#include <system_error>
#include <utility>

#include "native/core/status.h"

namespace himap {

TaskThread::TaskThread(unsigned threads) {
  threads_.reserve(threads);
  try {
    for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
  } catch (const std::system_error&) {
    stop();  // those that were had would otherwise end the process
    fail(Code::ERR_OUT_OF_MEMORY, "[threads] the system refused to start " + std::to_string(threads) + " threads");
  } catch (...) {
    stop();
    throw;
  }
}

TaskThread::~TaskThread() { stop(); }

bool TaskThread::post(std::function<void()> task) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return false;
    queue_.push_back(std::move(task));
  }
  changed_.notify_one();
  return true;
}

void TaskThread::stop() noexcept {
  std::list<std::function<void()>> dropped;  // destroyed last and unlocked: a task's destructor may post elsewhere
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    dropped.swap(queue_);
  }
  changed_.notify_all();
  std::lock_guard<std::mutex> joining(join_mutex_);
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void TaskThread::run() noexcept {
  for (;;) {
    std::function<void()> task;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    try {
      task();
    } catch (...) {
    }
  }
}

}  // namespace himap
