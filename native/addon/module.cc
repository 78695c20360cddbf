// Everything that the addon exports, in the order of lib/binding/native.ts.
#include "native/addon/module.h"

#include "native/addon/addon_data.h"
#include "native/addon/async.h"
#include "native/addon/engine_object.h"
#include "native/addon/file_lock.h"
#include "native/addon/model_functions.h"
#include "native/addon/preprocess.h"
#include "kernels/kv_layout.h"

namespace himap {

Napi::Object fill_module(Napi::Env env, Napi::Object exports) {
  coded(env, [&] { AddonData::create(env); });
  exports.Set("version", Napi::String::New(env, HIMAP_VERSION));
  exports.Set("errorCodes", error_codes(env));
  exports.Set("pageTokens", kPageTokens);
  exports.Set("pageBytes", Napi::Function::New<guarded<page_bytes>>(env, "pageBytes"));
  exports.Set("plan", Napi::Function::New<guarded<plan>>(env, "plan"));
  exports.Set("memoryOf", Napi::Function::New<guarded<memory_of>>(env, "memoryOf"));
  exports.Set("backends", Napi::Function::New<guarded<backends>>(env, "backends"));
  exports.Set("deviceMemory", Napi::Function::New<guarded<device_memory>>(env, "deviceMemory"));
  exports.Set("lockFile", Napi::Function::New<guarded<lock_file>>(env, "lockFile"));
  exports.Set("preprocess", Napi::Function::New<guarded<preprocess_image>>(env, "preprocess"));
  exports.Set("open", Napi::Function::New<guarded<open_engine>>(env, "open"));
  return exports;
}

}  // namespace himap
