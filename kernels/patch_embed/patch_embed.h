// The head of the vision tower: y[0] = class + position[0]; y[1 + p] = W patch_p + position[1 + p]. Patches in raster
// order, each flattened (channel, row, column); no bias.
#pragma once

#include "kernels/types.h"

namespace himap {

struct PatchEmbedParams {
  const float* pixels;          // (images, 3, side, side) normalised
  const Weight* weight;         // (width, 3 * patch * patch)
  const float* class_row;       // (width)
  const float* position_rows;   // (1 + patches, width)
  void* y;                      // (images * (1 + patches), width) activations
  int64_t images;
  int32_t side;
  int32_t patch;
  int32_t width;
};

}  // namespace himap
