// From our threads to promises, and from C++ exceptions to JavaScript errors with a `code`.
#pragma once

#include <napi.h>

#include <functional>

#include "native/addon/addon_data.h"
#include "native/core/status.h"
#include "native/core/task_thread.h"

namespace himap {

// Runs `work` on `thread`, then `done` on the JavaScript thread, whose value settles the promise. An exception of either
// rejects it; so does a task that the thread drops because it is stopped (ERR_ABORTED). `work` must not touch a JavaScript
// value: copy what it needs before. Both are destroyed on the JavaScript thread.
Napi::Promise run_async(AddonData& data, TaskThread& thread, std::function<void()> work,
                        std::function<Napi::Value(Napi::Env)> done);

// The exception being handled, as one of ours. Call inside a catch block.
Error caught_error() noexcept;

// An Error object with the property `code`.
Napi::Error to_js_error(Napi::Env env, const Error& error);

// What `call` returns; what it throws carries its code.
template <class Call>
auto coded(Napi::Env env, const Call& call) {
  try {
    return call();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_js_error(env, caught_error());
  }
}

// An exported function whose failures carry their code.
template <Napi::Value (*function)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  return coded(info.Env(), [&] { return function(info); });
}

}  // namespace himap
