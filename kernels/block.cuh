// Reductions and counts over a whole block, in a fixed order. Every thread of the block takes part.
#pragma once

#include "kernels/device.h"

namespace himap::device {

constexpr int32_t kMaxWarps = 32;

/** Shared memory of one reduction; may be used again as soon as its function has returned. */
struct BlockShared {
  float value[kMaxWarps];
  int32_t count[kMaxWarps];
};

/** The sum over all threads: within each warp by exchange, then over the warps in ascending order. */
HIMAP_DEVICE float block_sum(float value, BlockShared& shared) {
  const float own = warp_sum(value);
  if (lane_id() == 0) shared.value[warp_id()] = own;
  sync_threads();
  float sum = 0;
  for (int32_t w = 0; w < block_threads() / 32; ++w) sum += shared.value[w];
  sync_threads();
  return sum;
}

HIMAP_DEVICE float block_max(float value, BlockShared& shared) {
  const float own = warp_max(value);
  if (lane_id() == 0) shared.value[warp_id()] = own;
  sync_threads();
  float most = shared.value[0];
  for (int32_t w = 1; w < block_threads() / 32; ++w) most = fmaxf(most, shared.value[w]);
  sync_threads();
  return most;
}

/** How many threads before this one say yes, and in `all` how many say yes at all. */
HIMAP_DEVICE int32_t block_rank(bool yes, BlockShared& shared, int32_t& all) {
  const uint32_t votes = ballot(yes);
  if (lane_id() == 0) shared.count[warp_id()] = popcount(votes);
  sync_threads();
  int32_t before = popcount(votes & ((1u << lane_id()) - 1));
  all = 0;
  for (int32_t w = 0; w < block_threads() / 32; ++w) {
    if (w < warp_id()) before += shared.count[w];
    all += shared.count[w];
  }
  sync_threads();
  return before;
}

}  // namespace himap::device
