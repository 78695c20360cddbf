#pragma once

#include "kernels/candidates/candidates.h"
#include "kernels/device.h"

namespace himap {

device::DeviceError launch_candidates(const CandidatesParams& params, device::Stream stream);

}  // namespace himap
