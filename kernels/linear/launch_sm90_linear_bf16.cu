#include "kernels/linear/launch_sm90_linear.cuh"

namespace himap {

device::DeviceError launch_sm90_linear_bf16(const LinearLaunch& l, int32_t tile, device::Stream stream) {
  return launch_sm90_linear_typed<Bf16>(l, tile, stream);
}

}  // namespace himap
