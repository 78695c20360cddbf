// Everything that the addon exports, in the order of lib/binding/native.ts.
#include <napi.h>

#include "native/addon/addon_data.h"

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  himap::AddonData::create(env);
  exports.Set("version", Napi::String::New(env, HIMAP_VERSION));
  return exports;
}

NODE_API_MODULE(himap, init)
