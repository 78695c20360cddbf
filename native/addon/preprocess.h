#pragma once

#include <napi.h>

namespace himap {

// `preprocess` of lib/binding/native.ts: native/image on the environment's image threads.
Napi::Value preprocess_image(const Napi::CallbackInfo& info);

}  // namespace himap
