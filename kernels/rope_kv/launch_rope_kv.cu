#include "kernels/rope_kv/launch_rope_kv.h"

#include "kernels/dispatch.h"
#include "kernels/rope_kv/rope_kv.cuh"

namespace himap {

device::DeviceError launch_rope_kv(DType type, const RopeKvParams& p, device::Stream stream) {
  if (p.rows == 0) return device::kNoError;
  return with_activation(type, [&](auto activation) {
    return with_storage(p.layout.type, [&](auto stored) {
      return device::launch(device::rope_kv_kernel<decltype(activation), decltype(stored)>,
                            {.name = "rope_kv",
                             .grid = {static_cast<uint32_t>(p.rows)},
                             .threads = device::kRopeThreads,
                             .shared_bytes = 0,
                             .stream = stream},
                            p);
    });
  });
}

}  // namespace himap
