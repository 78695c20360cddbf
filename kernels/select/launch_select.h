#pragma once

#include "kernels/device.h"
#include "kernels/select/select.h"

namespace himap {

/** Image rows of one sequence that fit in a block's shared memory, on every card from sm_80 on. */
constexpr int32_t kSelectMost = 19'000;

device::DeviceError launch_select(const SelectParams& params, device::Stream stream);

}  // namespace himap
