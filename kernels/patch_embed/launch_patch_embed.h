#pragma once

#include "kernels/device.h"
#include "kernels/linear/weight_image.h"
#include "kernels/patch_embed/patch_embed.h"

namespace himap {

/** Elements of a row of patches in the workspace: 3 * patch^2, padded so that the matrix product copies whole chunks. */
constexpr int64_t patch_row_stride(const PatchEmbedParams& p) { return (int64_t{3} * p.patch * p.patch + 7) / 8 * 8; }

struct PatchEmbedWorkspace {
  void* rows;       // (images * patches, patch_row_stride()) of the weight's type
  float* products;  // (images * patches, width)
};

/** `weight` is what `params.weight` holds. */
device::DeviceError launch_patch_embed(const PatchEmbedParams& params, const WeightImage& weight, const PatchEmbedWorkspace& workspace,
                                       device::Stream stream);

}  // namespace himap
