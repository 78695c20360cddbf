// The turn of a query or key by its position, for every kernel that turns one: dimensions i and i + head_dim / 2 turn
// together. The products are fused as written, so that a value has the same bits wherever it is turned.
#pragma once

#include "kernels/chunk.cuh"
#include "kernels/device.h"

namespace himap::device {

/** (low, high), that is dimensions (i, i + half), turned by the angle of (c, s). */
HIMAP_DEVICE float rotate_low(float low, float high, float c, float s) { return fmaf(low, c, -(high * s)); }
HIMAP_DEVICE float rotate_high(float low, float high, float c, float s) { return fmaf(high, c, low * s); }

/** Whether the halves of a head are whole chunks; else a chunk's partners do not lie side by side. */
HIMAP_DEVICE bool halves_in_chunks(int32_t head_dim) { return head_dim % (2 * kChunk) == 0; }

/**
 * Columns [column, column + kChunk) of a head (head_dim, at `head`), turned and rounded to T as if they had been stored.
 * `cos`, `sin`: (head_dim / 2) of the row's position.
 */
template <class T>
HIMAP_DEVICE void load_rotated(float (&v)[kChunk], const T* head, int32_t column, int32_t head_dim, const float* cos, const float* sin) {
  const int32_t half = head_dim / 2;
  if (halves_in_chunks(head_dim)) {
    const bool is_high = column >= half;
    const int32_t angle = is_high ? column - half : column;
    float low[kChunk], high[kChunk], c[kChunk], s[kChunk];
    load_chunk(low, head + angle);
    load_chunk(high, head + angle + half);
    load_chunk(c, cos + angle);
    load_chunk(s, sin + angle);
    HIMAP_UNROLL
    for (int32_t i = 0; i < kChunk; ++i) {
      v[i] = is_high ? rotate_high(low[i], high[i], c[i], s[i]) : rotate_low(low[i], high[i], c[i], s[i]);
    }
  } else {
    HIMAP_UNROLL
    for (int32_t i = 0; i < kChunk; ++i) {
      const bool is_high = column + i >= half;
      const int32_t angle = is_high ? column + i - half : column + i;
      const float low = to_float(head[angle]), high = to_float(head[angle + half]), c = cos[angle], s = sin[angle];
      v[i] = is_high ? rotate_high(low, high, c, s) : rotate_low(low, high, c, s);
    }
  }
  HIMAP_UNROLL
  for (int32_t i = 0; i < kChunk; ++i) v[i] = to_float(round_to<T>(v[i]));
}

}  // namespace himap::device
