// What one environment (the main thread, or one worker) owns. Nothing of the addon is global.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <mutex>
#include <set>

#include "native/core/task_thread.h"

namespace himap {

// Something with threads that must be gone before its environment is.
class Shutdown {
 public:
  virtual ~Shutdown() = default;
  // Cancels what runs and joins. Called once, on the JavaScript thread, when the environment ends.
  virtual void shutdown() noexcept = 0;
};

// Held by shared pointer: objects whose finalizers may run after the environment's own data is gone keep it.
class AddonData : public std::enable_shared_from_this<AddonData> {
 public:
  // Makes the environment's data: once, when the addon is loaded there.
  static void create(Napi::Env env);
  static std::shared_ptr<AddonData> of(Napi::Env env);
  ~AddonData();

  Napi::Env env() const { return env_; }

  using Call = std::function<void(Napi::Env)>;

  // Runs `call` on the JavaScript thread. From any thread; never waits. Once the environment is closing, `call` is
  // destroyed without having run.
  void post(std::unique_ptr<Call> call);

  // Every promise under way keeps the event loop alive, and nothing else of ours does. JavaScript thread.
  void began();
  void ended();

  // Registers what has to be shut down before the environment ends. JavaScript thread.
  void add(std::shared_ptr<Shutdown> owner);
  void remove(const std::shared_ptr<Shutdown>& owner);

  // The threads that prepare images; started by the first call. JavaScript thread.
  TaskThread& image_threads();

 private:
  explicit AddonData(Napi::Env env) : env_(env) {}
  static void deliver(napi_env env, napi_value, void*, void* data);
  void close() noexcept;

  Napi::Env env_;
  napi_threadsafe_function calls_ = nullptr;
  std::mutex mutex_;
  bool closed_ = false;  // no call reaches JavaScript any more
  size_t pending_ = 0;
  std::set<std::shared_ptr<Shutdown>> owners_;
  std::unique_ptr<TaskThread> image_threads_;
};

}  // namespace himap
