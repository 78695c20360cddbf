// Functions of the module that need no engine: the stage table, sizes, and which backends there are.
#pragma once

#include <napi.h>

namespace himap {

Napi::Value plan(const Napi::CallbackInfo& info);
Napi::Value page_bytes(const Napi::CallbackInfo& info);
Napi::Value memory_of(const Napi::CallbackInfo& info);
Napi::Value backends(const Napi::CallbackInfo& info);
Napi::Value device_memory(const Napi::CallbackInfo& info);

/** The codes of native/core/status.h, for a test to compare with lib/errors.cts. */
Napi::Array error_codes(Napi::Env env);

}  // namespace himap
