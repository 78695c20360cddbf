// Everything that the addon exports, in the order of lib/binding/native.ts.
#include <napi.h>

#include "native/addon/addon_data.h"
#include "native/addon/async.h"
#include "native/addon/preprocess.h"

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  himap::AddonData::create(env);
  exports.Set("version", Napi::String::New(env, HIMAP_VERSION));
  exports.Set("preprocess", Napi::Function::New<himap::guarded<himap::preprocess_image>>(env, "preprocess"));
  return exports;
}

NODE_API_MODULE(himap, init)
