#include "kernels/gather/launch_gather.h"

#include "kernels/gather/gather.cuh"

namespace himap {

device::DeviceError launch_gather(const GatherParams& p, device::Stream stream) {
  if (p.rows == 0 || p.n == 0) return device::kNoError;
  return device::launch(device::gather_kernel,
                        {.name = "gather",
                         .grid = {static_cast<uint32_t>(p.rows)},
                         .threads = device::kGatherThreads,
                         .shared_bytes = 0,
                         .stream = stream},
                        p);
}

}  // namespace himap
