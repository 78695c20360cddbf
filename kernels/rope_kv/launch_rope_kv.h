#pragma once

#include "kernels/device.h"
#include "kernels/rope_kv/rope_kv.h"

namespace himap {

/** `type` is that of the activations. */
device::DeviceError launch_rope_kv(DType type, const RopeKvParams& params, device::Stream stream);

}  // namespace himap
