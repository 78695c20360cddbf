// Rotation of queries and keys in place, and the way of keys and values into their pages.
//
// Grid: one block per row. Moves: the row's q and k twice, its v once, and k and v into the pool. Angles come in float32,
// a rotated value is rounded once; the pool gets what the row holds.
#pragma once

#include "kernels/device.h"
#include "kernels/rope_kv/rope_kv.h"

namespace himap::device {

constexpr int32_t kRopeThreads = 128;

/** T: activations; P: pool. */
template <class T, class P>
HIMAP_KERNEL(kRopeThreads, 1) rope_kv_kernel(HIMAP_PARAMS(RopeKvParams) p) {
  const int32_t row = block_x(), head_dim = p.layout.head_dim, half = head_dim / 2, kv_heads = p.layout.kv_heads;
  const int32_t turned = p.heads + kv_heads, slot = p.slot[row];
  const int32_t page = p.pages[int64_t{p.sequence[row]} * p.blocks + slot / kPageTokens];
  T* values = static_cast<T*>(p.qkv) + int64_t{row} * (turned + kv_heads) * head_dim;
  const int64_t angle = int64_t{p.positions[row]} * half;
  const auto cached = [&](int32_t value, int32_t head) {
    return static_cast<P*>(p.pool) + p.layout.offset(page, value, head, slot % kPageTokens);
  };
  for (int32_t i = thread_id(); i < turned * half; i += kRopeThreads) {
    const int32_t head = i / half, d = i % half;
    T* at = values + head * head_dim + d;
    const float c = p.cos[angle + d], s = p.sin[angle + d];
    const float x = to_float(at[0]), y = to_float(at[half]);
    at[0] = round_to<T>(x * c - y * s);
    at[half] = round_to<T>(y * c + x * s);
    if (head < p.heads) continue;
    P* key = cached(0, head - p.heads) + d;
    key[0] = round_to<P>(to_float(at[0]));
    key[half] = round_to<P>(to_float(at[half]));
  }
  for (int32_t i = thread_id(); i < kv_heads * head_dim; i += kRopeThreads) {
    cached(1, i / head_dim)[i % head_dim] = round_to<P>(to_float(values[turned * head_dim + i]));
  }
}

}  // namespace himap::device
