// RMSNorm and LayerNorm: one block per row, statistics in float32, sums in a fixed order.
//
// Moves: the row once from memory (its second and third reading hit L1) and once back. LayerNorm's variance is taken
// around the mean in a pass of its own: the difference of two large sums would lose it.
#pragma once

#include "kernels/block.cuh"
#include "kernels/chunk.cuh"
#include "kernels/norm/norm.h"

namespace himap::device {

constexpr int32_t kNormThreads = 256;

template <class T, bool kMean>
HIMAP_KERNEL(kNormThreads, 1) norm_kernel(HIMAP_PARAMS(NormParams) p) {
  auto& shared = shared_struct<BlockShared>();
  const T* x = static_cast<const T*>(p.x) + int64_t{block_x()} * p.width;
  T* y = static_cast<T*>(p.y) + int64_t{block_x()} * p.width;
  const bool aligned = chunks_aligned<T>(p.x, p.width) && chunks_aligned<T>(p.y, p.width);
  const auto each_chunk = [&](const auto& use) {
    for (int64_t c = int64_t{thread_id()} * kChunk; c < p.width; c += kNormThreads * kChunk) {
      float v[kChunk];
      load_chunk(v, x + c, p.width - c, aligned);
      use(c, v);
    }
  };
  const auto in_row = [&](int64_t c, int32_t i) { return c + i < p.width; };

  // Scales are asked for before the statistics are there: they come from memory, and nothing else would wait with them.
  for (int64_t c = int64_t{thread_id()} * kChunk; c < p.width; c += kNormThreads * kChunk) {
    prefetch(p.weight + c);
    if constexpr (kMean) prefetch(p.maybe_bias + c);
  }

  float mean = 0;
  if constexpr (kMean) {
    float sum = 0;
    each_chunk([&](int64_t, const float (&v)[kChunk]) {
      HIMAP_UNROLL
      for (int32_t i = 0; i < kChunk; ++i) sum += v[i];
    });
    mean = block_sum(sum, shared) / static_cast<float>(p.width);
  }
  float squares = 0;
  each_chunk([&](int64_t c, const float (&v)[kChunk]) {
    HIMAP_UNROLL
    for (int32_t i = 0; i < kChunk; ++i) {
      const float from_mean = kMean && !in_row(c, i) ? 0.0f : v[i] - mean;
      squares = fmaf(from_mean, from_mean, squares);
    }
  });
  // The barriers inside also hold the writers back until every thread has read the row: y may be x.
  const float inverse = 1.0f / sqrtf(block_sum(squares, shared) / static_cast<float>(p.width) + p.eps);
  each_chunk([&](int64_t c, float (&v)[kChunk]) {
    HIMAP_UNROLL
    for (int32_t i = 0; i < kChunk; ++i) {
      if (!in_row(c, i)) continue;
      v[i] = (v[i] - mean) * inverse * p.weight[c + i];
      if constexpr (kMean) v[i] += p.maybe_bias[c + i];
    }
    store_chunk(y + c, v, p.width - c, aligned);
  });
}

}  // namespace himap::device
