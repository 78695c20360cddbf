// Rotation of a prompt's queries and keys in place, and the way of keys and values into their pages.
//
// Grid: one block per row. Moves: the row's q and k twice, its v once, and k and v into the pool, 16 bytes at a time where
// the halves of a head allow it. Angles come in float32, a rotated value is rounded once; the pool gets what the row holds.
// One value at a time would be 64 rounds of 2-byte accesses for a row of 7B; chunks make it 8.
#pragma once

#include "kernels/rope_kv/rope_kv.h"
#include "kernels/rope_kv/rotate.cuh"

namespace himap::device {

constexpr int32_t kRopeThreads = 128;

/** T: activations; P: pool. */
template <class T, class P>
HIMAP_KERNEL(kRopeThreads, 1) rope_kv_kernel(HIMAP_PARAMS(RopeKvParams) p) {
  const int32_t row = block_x(), head_dim = p.layout.head_dim, half = head_dim / 2, kv_heads = p.layout.kv_heads;
  const int32_t turned = p.heads + kv_heads, slot = p.slot[row];
  const int32_t page = p.pages[int64_t{p.sequence[row]} * p.blocks + slot / kPageTokens];
  T* values = static_cast<T*>(p.qkv) + int64_t{row} * (turned + kv_heads) * head_dim;
  const float* cos = p.cos + int64_t{p.positions[row]} * half;
  const float* sin = p.sin + int64_t{p.positions[row]} * half;
  const auto cached = [&](int32_t value, int32_t head) {
    return static_cast<P*>(p.pool) + p.layout.offset(page, value, head, slot % kPageTokens);
  };
  if (halves_in_chunks(head_dim)) {
    const int32_t pairs = half / kChunk;
    for (int32_t i = thread_id(); i < turned * pairs; i += kRopeThreads) {
      const int32_t head = i / pairs, d = i % pairs * kChunk;
      T* at = values + head * head_dim + d;
      float low[kChunk], high[kChunk], c[kChunk], s[kChunk];
      load_chunk(low, at);
      load_chunk(high, at + half);
      load_chunk(c, cos + d);
      load_chunk(s, sin + d);
      HIMAP_UNROLL
      for (int32_t e = 0; e < kChunk; ++e) {
        const float x = low[e], y = high[e];
        low[e] = to_float(round_to<T>(rotate_low(x, y, c[e], s[e])));
        high[e] = to_float(round_to<T>(rotate_high(x, y, c[e], s[e])));
      }
      store_chunk(at, low);
      store_chunk(at + half, high);
      if (head < p.heads) continue;
      P* key = cached(0, head - p.heads) + d;
      store_chunk(key, low);
      store_chunk(key + half, high);
    }
  } else {
    for (int32_t i = thread_id(); i < turned * half; i += kRopeThreads) {
      const int32_t head = i / half, d = i % half;
      T* at = values + head * head_dim + d;
      const float x = to_float(at[0]), y = to_float(at[half]);
      at[0] = round_to<T>(rotate_low(x, y, cos[d], sin[d]));
      at[half] = round_to<T>(rotate_high(x, y, cos[d], sin[d]));
      if (head < p.heads) continue;
      P* key = cached(0, head - p.heads) + d;
      key[0] = round_to<P>(to_float(at[0]));
      key[half] = round_to<P>(to_float(at[half]));
    }
  }
  const int32_t chunks = head_dim / kChunk;
  for (int32_t i = thread_id(); i < kv_heads * chunks; i += kRopeThreads) {
    const int32_t head = i / chunks, d = i % chunks * kChunk;
    float v[kChunk];
    load_chunk(v, values + (turned + head) * head_dim + d);
    store_chunk(cached(1, head) + d, v);
  }
}

}  // namespace himap::device
