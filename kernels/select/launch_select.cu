#include "kernels/select/launch_select.h"

#include "kernels/select/select.cuh"

namespace himap {

static_assert(device::select_shared_bytes(kSelectMost) <= 99 << 10, "what a block of sm_86 may have");

device::DeviceError launch_select(const SelectParams& p, device::Stream stream) {
  if (p.n == 0) return device::kNoError;
  return device::launch(device::select_kernel,
                        {.name = "select",
                         .grid = {static_cast<uint32_t>(p.n)},
                         .threads = device::kSelectThreads,
                         .shared_bytes = device::select_shared_bytes(p.max_alive),
                         .stream = stream},
                        p);
}

}  // namespace himap
