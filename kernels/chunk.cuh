// Eight values at a time between memory and float32 registers, the unit in which rows are read and written.
#pragma once

#include "kernels/device.h"

namespace himap::device {

constexpr int32_t kChunk = 8;

/** Whether rows of `width` elements from `base` may be moved in whole chunks, 16 bytes at a time. */
template <class T>
HIMAP_HOST_DEVICE inline bool chunks_aligned(const void* base, int64_t width) {
  return width % kChunk == 0 && reinterpret_cast<uintptr_t>(base) % 16 == 0;
}

/** A whole chunk from an address that 16 divides. */
template <class T>
HIMAP_DEVICE void load_chunk(float (&v)[kChunk], const T* from) {
  const Vec16 raw = *reinterpret_cast<const Vec16*>(from);
  HIMAP_UNROLL
  for (int32_t i = 0; i < 4; ++i) {
    v[2 * i] = unpack_low<T>(raw.word[i]);
    v[2 * i + 1] = unpack_high<T>(raw.word[i]);
  }
}
HIMAP_DEVICE void load_chunk(float (&v)[kChunk], const float* from) {
  HIMAP_UNROLL
  for (int32_t half = 0; half < 2; ++half) {
    const Vec16 raw = reinterpret_cast<const Vec16*>(from)[half];
    HIMAP_UNROLL
    for (int32_t i = 0; i < 4; ++i) v[4 * half + i] = bits_float(raw.word[i]);
  }
}

/** A whole chunk to an address that 16 divides. */
template <class T>
HIMAP_DEVICE void store_chunk(T* to, const float (&v)[kChunk]) {
  *reinterpret_cast<Vec16*>(to) = {{pack<T>(v[0], v[1]), pack<T>(v[2], v[3]), pack<T>(v[4], v[5]), pack<T>(v[6], v[7])}};
}
HIMAP_DEVICE void store_chunk(float* to, const float (&v)[kChunk]) {
  HIMAP_UNROLL
  for (int32_t half = 0; half < 2; ++half) {
    reinterpret_cast<Vec16*>(to)[half] = {{float_bits(v[4 * half]), float_bits(v[4 * half + 1]), float_bits(v[4 * half + 2]),
                                           float_bits(v[4 * half + 3])}};
  }
}

/** The first `count` (at most 8) values of a chunk, the rest zero. */
template <class T>
HIMAP_DEVICE void load_chunk(float (&v)[kChunk], const T* from, int64_t count, bool aligned) {
  if (aligned && count >= kChunk) return load_chunk(v, from);
  HIMAP_UNROLL
  for (int32_t i = 0; i < kChunk; ++i) v[i] = i < count ? to_float(from[i]) : 0.0f;
}

template <class T>
HIMAP_DEVICE void store_chunk(T* to, const float (&v)[kChunk], int64_t count, bool aligned) {
  if (aligned && count >= kChunk) return store_chunk(to, v);
  HIMAP_UNROLL
  for (int32_t i = 0; i < kChunk; ++i) {
    if (i < count) to[i] = round_to<T>(v[i]);
  }
}

}  // namespace himap::device
