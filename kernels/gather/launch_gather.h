#pragma once

#include "kernels/device.h"
#include "kernels/gather/gather.h"

namespace himap {

device::DeviceError launch_gather(const GatherParams& params, device::Stream stream);

}  // namespace himap
