// Threads of our own with a queue, so that no work of ours occupies libuv's pool.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

namespace himap {

// Runs posted tasks in order; with one thread they never overlap. An exception that leaves a task is swallowed: whoever
// posts catches inside the task and reports in its own way.
class TaskThread {
 public:
  // ERR_OUT_OF_MEMORY where the system refuses a thread.
  explicit TaskThread(unsigned threads = 1);

  // As `stop`.
  ~TaskThread();
  TaskThread(const TaskThread&) = delete;
  TaskThread& operator=(const TaskThread&) = delete;

  // False once stopped: the task is then destroyed without having run.
  bool post(std::function<void()> task);

  // Destroys the tasks that have not begun, waits for those that run, joins. Idempotent; any thread but our own.
  void stop() noexcept;

 private:
  void run() noexcept;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<std::function<void()>> queue_;  // takes no memory while empty: `stop` must not fail
  bool stopping_ = false;
  std::mutex join_mutex_;  // two callers of `stop` both return only when the threads are gone
  std::vector<std::thread> threads_;
};

}  // namespace himap
