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

/** Which instructions multiply; the families' bits differ. */
enum class LinearFamily : int32_t {
  kOfDevice = 0,  // wgmma on Hopper, mma elsewhere; HIMAP_CUDA_LINEAR=mma or wgmma in the environment says otherwise
  kMma = 1,       // mma.sync and cp.async
  kWgmma = 2,     // wgmma and TMA: compute capability 9.0 only; rows of x that TMA cannot take go to kMma
};

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
  LinearFamily family = LinearFamily::kOfDevice;
};

/** Where sums go, as kernels are told. */
struct LinearOutput {
  const float* maybe_bias;     // (columns), or gate's, then up's
  const void* maybe_residual;  // (rows, columns) T
  void* y;                     // (rows, columns) T, or float
  int32_t rows;
  int32_t columns;
  Epilogue epilogue;
  bool y_is_float;
};

/** In how many parts this launch walks `in`: prefill is never split. */
constexpr int64_t linear_splits(const LinearLaunch& l) { return l.phase == Phase::kPrefill ? 1 : decode_splits(*l.weight); }

inline LinearOutput linear_output_of(const LinearLaunch& l) {
  return {.maybe_bias = l.maybe_bias,
          .maybe_residual = l.maybe_residual,
          .y = l.y,
          .rows = static_cast<int32_t>(l.rows),
          .columns = static_cast<int32_t>(l.weight->columns()),
          .epilogue = l.epilogue,
          .y_is_float = l.y_is_float};
}

/** What is wrong with HIMAP_CUDA_LINEAR on this device; null: nothing. */
const char* linear_family_fault();

device::DeviceError launch_linear(const LinearLaunch& launch, device::Stream stream);

/**
 * With the tile at that place of kSm90LinearTiles (sm90_linear_tiles.h); a split layer
 * with at most kDecodeSplitRows rows, and a tile that merges.
 */
device::DeviceError launch_sm90_linear(const LinearLaunch& launch, int32_t tile, device::Stream stream);
device::DeviceError launch_sm90_linear_bf16(const LinearLaunch& launch, int32_t tile, device::Stream stream);
device::DeviceError launch_sm90_linear_f16(const LinearLaunch& launch, int32_t tile, device::Stream stream);

device::DeviceError launch_repack(const RepackParams& params, device::Stream stream);

}  // namespace himap
