#pragma once

#include <napi.h>

namespace himap {

/** Makes an environment's data and puts everything that the addon exports into `exports`. */
Napi::Object fill_module(Napi::Env env, Napi::Object exports);

}  // namespace himap
