// Everything that the addon exports, in the order of lib/binding/native.ts.
#include <napi.h>

#include "native/addon/addon_data.h"
#include "native/addon/async.h"
#include "native/addon/engine_object.h"
#include "native/addon/file_lock.h"
#include "native/addon/model_functions.h"
#include "native/addon/preprocess.h"
#include "kernels/kv_layout.h"

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  himap::AddonData::create(env);
  exports.Set("version", Napi::String::New(env, HIMAP_VERSION));
  exports.Set("errorCodes", himap::error_codes(env));
  exports.Set("pageTokens", himap::kPageTokens);
  exports.Set("pageBytes", Napi::Function::New<himap::guarded<himap::page_bytes>>(env, "pageBytes"));
  exports.Set("plan", Napi::Function::New<himap::guarded<himap::plan>>(env, "plan"));
  exports.Set("memoryOf", Napi::Function::New<himap::guarded<himap::memory_of>>(env, "memoryOf"));
  exports.Set("backends", Napi::Function::New<himap::guarded<himap::backends>>(env, "backends"));
  exports.Set("deviceMemory", Napi::Function::New<himap::guarded<himap::device_memory>>(env, "deviceMemory"));
  exports.Set("lockFile", Napi::Function::New<himap::guarded<himap::lock_file>>(env, "lockFile"));
  exports.Set("preprocess", Napi::Function::New<himap::guarded<himap::preprocess_image>>(env, "preprocess"));
  exports.Set("open", Napi::Function::New<himap::guarded<himap::open_engine>>(env, "open"));
  return exports;
}

NODE_API_MODULE(himap, init)
