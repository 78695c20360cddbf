// The engine as JavaScript sees it: `open` resolves to an object with `info`, `step`, `interrupt` and `close`.
#pragma once

#include <napi.h>

namespace himap {

/** open(manifest, options, onProgress?): Promise<NativeEngine>. A progress callback that returns false gives up. */
Napi::Value open_engine(const Napi::CallbackInfo& info);

/** The folder that this addon was loaded from, where the backends' libraries lie. */
std::string addon_folder();

}  // namespace himap
