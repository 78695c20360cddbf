// Launches of linear layers: y = epilogue(x W^T + bias) + residual, in 16-bit types with float32 sums.
#pragma once

#include "kernels/device.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/weight_image.h"

namespace himap {

/** What a split of `in` leaves behind for its last block; one per stream, so that launches follow each other. */
struct LinearWorkspace {
  float* partials;     // kLinearPartials floats
  uint32_t* arrivals;  // kLinearArrivals, zero before the first launch; every launch leaves them zero
};

constexpr int64_t kDecodeTileOut = 64;          // rows of the image that one decode block owns
constexpr int64_t kDecodeBlocks = 264;          // two for each of an H100's 132 multiprocessors
constexpr int64_t kDecodeTilesPerSplit = 8;     // at least: a shorter walk would be all start-up
constexpr int64_t kDecodeSplitRows = 256;       // rows of one launch of a split layer
constexpr int64_t kLinearPartials = kDecodeBlocks * kDecodeTileOut * kDecodeSplitRows;
constexpr int64_t kLinearArrivals = kDecodeBlocks * kDecodeSplitRows / 8;

/** In how many parts a decode layer walks `in`: a fact of the weight's shape alone, never of the rows. */
constexpr int64_t decode_splits(const WeightImage& weight) {
  const int64_t by_blocks = kDecodeBlocks / (weight.out_tiles() * (kImageRows / kDecodeTileOut));
  const int64_t by_depth = weight.in_tiles() / kDecodeTilesPerSplit;
  const int64_t splits = by_blocks < by_depth ? by_blocks : by_depth;
  return splits < 1 ? 1 : splits;
}

struct LinearLaunch {
  const void* x;               // (rows, x_stride) of the weight's type, the first `in` of each row used
  int64_t x_stride;
  const WeightImage* weight;
  const float* maybe_bias;     // (out): gate's, then up's
  const void* maybe_residual;  // (rows, columns) of the weight's type; may be y
  void* y;                     // (rows, columns) of the weight's type, or float
  bool y_is_float;             // logits; then no residual
  int64_t rows;
  Phase phase;
  Epilogue epilogue;           // kSwiGlu if and only if the weight is gate and up
  LinearWorkspace workspace;   // of the decode phase
};

device::DeviceError launch_linear(const LinearLaunch& launch, device::Stream stream);

device::DeviceError launch_repack(const RepackParams& params, device::Stream stream);

}  // namespace himap
