// The head of the vision tower around its matrix product: pixels to rows of patches before it, class and position rows
// after it.
//
// Grid: one block per patch row, one per row of y. Moves: the pixels once, the patches once each way, y once.
#pragma once

#include "kernels/device.h"
#include "kernels/patch_embed/patch_embed.h"

namespace himap::device {

constexpr int32_t kPatchThreads = 128;

struct PatchRowsParams {
  const float* pixels;  // (images, 3, side, side)
  void* rows;           // (images * patches, stride) T, zero beyond 3 * patch^2
  int32_t side;
  int32_t patch;
  int32_t stride;
};

template <class T>
HIMAP_KERNEL(kPatchThreads, 1) patch_rows_kernel(HIMAP_PARAMS(PatchRowsParams) p) {
  const int32_t across = p.side / p.patch, patches = across * across;
  const int32_t image = block_x() / patches, index = block_x() % patches;
  const int64_t top = int64_t{index / across} * p.patch, left = index % across * p.patch;
  const float* corner = p.pixels + (int64_t{image} * 3 * p.side + top) * p.side + left;
  T* row = static_cast<T*>(p.rows) + int64_t{block_x()} * p.stride;
  const int32_t area = p.patch * p.patch;
  for (int32_t i = thread_id(); i < p.stride; i += kPatchThreads) {
    const int32_t channel = i / area, line = i % area / p.patch, column = i % p.patch;
    row[i] = round_to<T>(channel < 3 ? corner[(int64_t{channel} * p.side + line) * p.side + column] : 0.0f);
  }
}

struct PatchPositionsParams {
  const float* products;       // (images * patches, width)
  const float* class_row;      // (width)
  const float* position_rows;  // (1 + patches, width)
  void* y;                     // (images * (1 + patches), width) T
  int32_t patches;
  int32_t width;
};

template <class T>
HIMAP_KERNEL(kPatchThreads, 1) patch_positions_kernel(HIMAP_PARAMS(PatchPositionsParams) p) {
  const int32_t image = block_x() / (1 + p.patches), position = block_x() % (1 + p.patches);
  const float* from = position == 0 ? p.class_row : p.products + (int64_t{image} * p.patches + position - 1) * p.width;
  const float* add = p.position_rows + int64_t{position} * p.width;
  T* y = static_cast<T*>(p.y) + int64_t{block_x()} * p.width;
  for (int32_t i = thread_id(); i < p.width; i += kPatchThreads) y[i] = round_to<T>(from[i] + add[i]);
}

}  // namespace himap::device
