#include "kernels/norm/launch_norm.h"

#include "kernels/dispatch.h"
#include "kernels/norm/norm.cuh"

namespace himap {

device::DeviceError launch_norm(DType type, const NormParams& p, device::Stream stream) {
  if (p.rows == 0) return device::kNoError;
  return with_activation(type, [&](auto value) {
    using T = decltype(value);
    return device::launch(p.maybe_bias ? device::norm_kernel<T, true> : device::norm_kernel<T, false>,
                          {.name = "norm",
                           .grid = {static_cast<uint32_t>(p.rows)},
                           .threads = device::kNormThreads,
                           .shared_bytes = sizeof(device::BlockShared),
                           .stream = stream},
                          p);
  });
}

}  // namespace himap
