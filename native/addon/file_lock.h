#pragma once

#include <napi.h>

namespace himap {

// lockFile({ descriptor }): takes the open file for this process alone; false where another one has it. The system takes
// the lock back when the descriptor is closed, or the process ends in whatever way.
Napi::Value lock_file(const Napi::CallbackInfo& info);

}  // namespace himap
