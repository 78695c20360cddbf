#pragma once

#include "kernels/device.h"
#include "kernels/norm/norm.h"

namespace himap {

/** `type` is that of the activations. */
device::DeviceError launch_norm(DType type, const NormParams& params, device::Stream stream);

}  // namespace himap
