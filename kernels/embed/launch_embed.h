#pragma once

#include "kernels/device.h"
#include "kernels/embed/embed.h"
#include "kernels/linear/weight_image.h"

namespace himap {

/** `table` is what `params.table` holds, of the activations' type. */
device::DeviceError launch_embed(const EmbedParams& params, const WeightImage& table, device::Stream stream);

}  // namespace himap
