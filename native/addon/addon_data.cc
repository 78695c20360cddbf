#include "native/addon/addon_data.h"

#include <algorithm>
#include <utility>

namespace himap {
namespace {

// A resize is bound by memory: more threads than this only take processors from the engine.
constexpr unsigned kMaxImageThreads = 4;

}  // namespace

void AddonData::create(Napi::Env env) {
  std::shared_ptr<AddonData> data(new AddonData(env));
  napi_value name = Napi::String::New(env, "himap");
  napi_status status =
      napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr, deliver, &data->calls_);
  if (status != napi_ok) throw Napi::Error::New(env);
  napi_unref_threadsafe_function(env, data->calls_);

  // Hooks run in reverse order, so this one ends our threads while the thread-safe function can still be called.
  auto kept = std::make_unique<std::shared_ptr<AddonData>>(data);
  env.AddCleanupHook(
      [](std::shared_ptr<AddonData>* held) {
        (*held)->close();
        delete held;
      },
      kept.get());
  kept.release();
  env.SetInstanceData<std::shared_ptr<AddonData>>(new std::shared_ptr<AddonData>(data));
}

std::shared_ptr<AddonData> AddonData::of(Napi::Env env) { return *env.GetInstanceData<std::shared_ptr<AddonData>>(); }

AddonData::~AddonData() = default;

void AddonData::post(std::unique_ptr<Call> call) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return;
  if (napi_call_threadsafe_function(calls_, call.get(), napi_tsfn_nonblocking) == napi_ok) call.release();
}

// A closing environment passes a null `env` for what is still queued: the call is destroyed and settles nothing.
void AddonData::deliver(napi_env env, napi_value, void*, void* data) {
  std::unique_ptr<Call> call(static_cast<Call*>(data));
  if (env == nullptr) return;
  try {
    (*call)(Napi::Env(env));
  } catch (...) {  // a terminating worker refuses every call into JavaScript; nobody is left to be told
  }
}

void AddonData::began() {
  if (pending_++ == 0) napi_ref_threadsafe_function(env_, calls_);
}

void AddonData::ended() {
  if (--pending_ == 0) napi_unref_threadsafe_function(env_, calls_);
}

void AddonData::add(std::shared_ptr<Shutdown> owner) { owners_.insert(std::move(owner)); }

void AddonData::remove(const std::shared_ptr<Shutdown>& owner) { owners_.erase(owner); }

TaskThread& AddonData::image_threads() {
  if (!image_threads_) {
    image_threads_ = std::make_unique<TaskThread>(std::clamp(std::thread::hardware_concurrency(), 1u, kMaxImageThreads));
  }
  return *image_threads_;
}

void AddonData::close() noexcept {
  std::set<std::shared_ptr<Shutdown>> owners;
  owners.swap(owners_);  // a task that is dropped may be the last to hold what removes an owner
  for (const std::shared_ptr<Shutdown>& owner : owners) owner->shutdown();
  if (image_threads_) image_threads_->stop();
  std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
}

}  // namespace himap
