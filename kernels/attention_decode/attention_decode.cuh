// Attention of one new row per sequence over its pages, in float32 multiply-adds: with one query there is one product per
// byte, so the tensor cores have nothing to do.
//
// Grid (splits of the longest sequence, heads, rows). A block owns one split of one head: its four warps are cut into
// groups of kLanes lanes, a lane holding eight columns of the head. Scores go through shared memory, then the same groups
// sum the values. A sequence of one split is done then; else every split leaves (maximum, total, sum) behind, and the block
// that comes last merges them in ascending order.
// Moves: the keys and values of the row's length once per query head (a group's heads meet them in L2).
// Bits: what one split computes and how splits merge depends on the length alone.
#pragma once

#include "kernels/attention_decode/attention_decode.h"
#include "kernels/block.cuh"
#include "kernels/chunk.cuh"
#include "kernels/device.h"

namespace himap::device {

struct AttentionDecodeKernelParams {
  AttentionDecodeParams attention;
  float* partials;     // (rows, heads, splits, 2 + head_dim): maximum, total, sum
  uint32_t* arrivals;  // (rows, heads), zero before and after
};

/** T: activations; P: pool; kLanes: lanes that share a token, a power of two with kLanes * 8 >= head_dim. */
template <class T_, class P_, int32_t kLanes_>
struct DecodeTile {
  using T = T_;
  using P = P_;
  static constexpr int32_t kLanes = kLanes_;
  static constexpr int32_t kThreads = 128;
  static constexpr int32_t kGroups = kThreads / kLanes;

  struct Shared {
    float weight[kDecodeSplit];
    float sum[kGroups][kLanes * kChunk];
    BlockShared block;
    uint32_t last;
  };
};

template <class Tile>
HIMAP_KERNEL(Tile::kThreads, 1) attention_decode_kernel(HIMAP_PARAMS(AttentionDecodeKernelParams) p) {
  using T = typename Tile::T;
  auto& shared = shared_struct<typename Tile::Shared>();
  const AttentionDecodeParams& a = p.attention;
  const int32_t split = block_x(), head = block_y(), row = block_z();
  const int32_t first = split * kDecodeSplit, length = a.lengths[row];
  if (first >= length) return;
  const int32_t tokens = length - first < kDecodeSplit ? length - first : kDecodeSplit;
  const int32_t head_dim = a.layout.head_dim, kv_head = head / (a.heads / a.layout.kv_heads);
  const int32_t group = thread_id() / Tile::kLanes, column = thread_id() % Tile::kLanes * kChunk;
  const bool active = column < head_dim;
  const auto cached = [&](int32_t token, int32_t value) {
    const int32_t page = a.pages[int64_t{row} * a.blocks + (first + token) / kPageTokens];
    return static_cast<const typename Tile::P*>(a.pool) + a.layout.offset(page, value, kv_head, (first + token) % kPageTokens) + column;
  };

  float q[kChunk] = {};
  if (active) {
    load_chunk(q, static_cast<const T*>(a.qkv) + (int64_t{row} * (a.heads + 2 * a.layout.kv_heads) + head) * head_dim + column);
    HIMAP_UNROLL
    for (int32_t i = 0; i < kChunk; ++i) q[i] *= a.scale * 1.44269504f;  // softmax in powers of two
  }
  for (int32_t base = 0; base < tokens; base += Tile::kGroups) {
    const int32_t token = base + group;
    float dot = 0;
    if (active && token < tokens) {
      float k[kChunk];
      load_chunk(k, cached(token, 0));
      HIMAP_UNROLL
      for (int32_t i = 0; i < kChunk; ++i) dot = fmaf(q[i], k[i], dot);
    }
    HIMAP_UNROLL
    for (int32_t distance = Tile::kLanes / 2; distance > 0; distance >>= 1) dot += shuffle_xor(dot, distance);
    if (column == 0 && token < tokens) shared.weight[token] = dot;
  }
  sync_threads();

  float high = -INFINITY;
  for (int32_t t = thread_id(); t < tokens; t += Tile::kThreads) high = fmaxf(high, shared.weight[t]);
  high = block_max(high, shared.block);
  float total = 0;
  for (int32_t t = thread_id(); t < tokens; t += Tile::kThreads) {
    shared.weight[t] = exp2_approx(shared.weight[t] - high);
    total += shared.weight[t];
  }
  total = block_sum(total, shared.block);  // its barriers also make the weights everyone's

  float sum[kChunk] = {};
  for (int32_t token = group; active && token < tokens; token += Tile::kGroups) {
    float v[kChunk];
    load_chunk(v, cached(token, 1));
    HIMAP_UNROLL
    for (int32_t i = 0; i < kChunk; ++i) sum[i] = fmaf(shared.weight[token], v[i], sum[i]);
  }
  HIMAP_UNROLL
  for (int32_t i = 0; i < kChunk; ++i) shared.sum[group][column + i] = sum[i];
  sync_threads();
  const auto own = [&](int32_t d) {
    float all = 0;
    for (int32_t g = 0; g < Tile::kGroups; ++g) all += shared.sum[g][d];
    return all;
  };

  T* y = static_cast<T*>(a.y) + (int64_t{row} * a.heads + head) * head_dim;
  const int32_t splits = (length + kDecodeSplit - 1) / kDecodeSplit;
  if (splits == 1) {
    for (int32_t d = thread_id(); d < head_dim; d += Tile::kThreads) y[d] = round_to<T>(own(d) / total);
    return;
  }
  const int64_t at = int64_t{row} * a.heads + head;
  float* parts = p.partials + at * grid_x() * (2 + head_dim);
  float* part = parts + int64_t{split} * (2 + head_dim);
  for (int32_t d = thread_id(); d < head_dim; d += Tile::kThreads) part[2 + d] = own(d);
  if (thread_id() == 0) {
    part[0] = high;
    part[1] = total;
  }
  sync_threads();
  if (thread_id() == 0) {
    shared.last = atomic_add_ordered(p.arrivals + at, 1) + 1 == static_cast<uint32_t>(splits);
    if (shared.last) p.arrivals[at] = 0;
  }
  sync_threads();
  if (!shared.last) return;
  float most = -INFINITY;
  for (int32_t s = 0; s < splits; ++s) most = fmaxf(most, parts[int64_t{s} * (2 + head_dim)]);
  for (int32_t d = thread_id(); d < head_dim; d += Tile::kThreads) {
    float merged = 0, all = 0;
    for (int32_t s = 0; s < splits; ++s) {
      const float* one = parts + int64_t{s} * (2 + head_dim);
      const float weight = exp2_approx(one[0] - most);
      all = fmaf(weight, one[1], all);
      merged = fmaf(weight, one[2 + d], merged);
    }
    y[d] = round_to<T>(merged / all);
  }
}

}  // namespace himap::device
