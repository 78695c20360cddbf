#include "kernels/linear/launch_sm90_linear.cuh"

namespace himap {

device::DeviceError launch_sm90_linear_f16(const LinearLaunch& l, int32_t tile, device::Stream stream) {
  return launch_sm90_linear_typed<F16>(l, tile, stream);
}

}  // namespace himap
