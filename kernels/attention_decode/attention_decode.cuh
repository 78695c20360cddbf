// Attention of one new row per sequence over its pages, in float32 multiply-adds: with one query there is one product per
// byte, so the tensor cores have nothing to do and the reading of keys and values is all the time there is.
//
// Grid (splits of the longest table, heads, rows). A block owns one split of one head: its four warps are cut into groups
// of kLanes lanes, a lane holding eight columns of the head, and each group walks every kGroups-th token with a softmax
// state of its own. Keys and values come 16 bytes at a time through a ring in shared memory; a lane copies in what it will
// read itself, so the ring needs no barrier. The groups' states are merged in ascending order. A sequence of one split is
// done then; else every split leaves (maximum, total, sum) behind, and the block that comes last merges them in ascending
// order.
// The row's own token: its query and key are turned here, by every block that needs them. It starts the state of the first
// group of the last split, and the first query head of its key's group writes it into the page, which nobody reads.
// In flight: kStages - 1 whole stages of kBatch keys and values of 16 bytes for each of 128 threads, 32 KiB to a block and,
// four blocks to a multiprocessor of an H100, 16.5 MiB to the card; 3.35 TB/s (H100) x 0.8 us is 2.6 MiB, 4.8 TB/s (H200)
// 3.7 MiB. One block to a multiprocessor already has 4.1 MiB.
// Moves: the keys and values of the row's length once per query head (a group's heads meet them in L2).
// Bits: what one split computes and how splits merge depends on the length alone.
#pragma once

#include "kernels/attention_decode/attention_decode.h"
#include "kernels/chunk.cuh"
#include "kernels/device.h"
#include "kernels/rope_kv/rotate.cuh"

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
  static constexpr int32_t kStages = 3;
  static constexpr int32_t kVectors = sizeof(P) * kChunk / sizeof(Vec16);  // of one lane's columns of one token
  static constexpr int32_t kBatch = 4 / kVectors;                          // tokens of a group in one stage
  static constexpr int32_t kStageTokens = kGroups * kBatch;

  struct Shared {
    Vec16 ring[kStages][kBatch][2][kVectors][kThreads];  // keys, values
    float sum[kGroups][kLanes * kChunk];
    float high[kGroups];
    float total[kGroups];
    int32_t pages[kDecodeSplit / kPageTokens];
    uint32_t last;
  };
};

/** A lane's columns of one token, out of the ring. */
template <class P, int32_t kVectors, int32_t kThreads>
HIMAP_DEVICE void load_from_ring(float (&v)[kChunk], const Vec16 (&slot)[kVectors][kThreads]) {
  if constexpr (kVectors == 1) {
    load_chunk(v, reinterpret_cast<const P*>(&slot[0][thread_id()]));
  } else {
    HIMAP_UNROLL
    for (int32_t half = 0; half < 2; ++half) {
      const Vec16 raw = slot[half][thread_id()];
      HIMAP_UNROLL
      for (int32_t i = 0; i < 4; ++i) v[4 * half + i] = bits_float(raw.word[i]);
    }
  }
}

/** A group's softmax state; its lanes hold the same `high` and `total`. */
struct DecodeState {
  float sum[kChunk] = {};
  float high = -INFINITY;  // largest score so far, in powers of two; -infinity before the first token
  float total = 0;

  /** Earlier weights shrink when scores up to `most` join. */
  HIMAP_DEVICE void raise(float most) {
    const float shrink = exp2_approx(high - most);
    high = most;
    total *= shrink;
    HIMAP_UNROLL
    for (int32_t i = 0; i < kChunk; ++i) sum[i] *= shrink;
  }
};

/** One block's split of one head. */
template <class Tile>
HIMAP_DEVICE DecodeState decode_split(const AttentionDecodeParams& a, typename Tile::Shared& shared, int32_t length) {
  using T = typename Tile::T;
  using P = typename Tile::P;
  const int32_t split = block_x(), head = block_y(), row = block_z();
  const int32_t head_dim = a.layout.head_dim, kv_heads = a.layout.kv_heads, sharers = a.heads / kv_heads, kv_head = head / sharers;
  const int32_t group = thread_id() / Tile::kLanes, column = thread_id() % Tile::kLanes * kChunk;
  const bool active = column < head_dim;
  const int32_t newest = length - 1, first = split * kDecodeSplit;
  const bool has_newest = newest / kDecodeSplit == split;
  const int32_t cached = has_newest ? newest - first : kDecodeSplit;  // tokens of the split that lie in the pool
  const auto place = [&](int32_t token, int32_t value) {
    return static_cast<P*>(a.pool) + a.layout.offset(shared.pages[token / kPageTokens], value, kv_head, token % kPageTokens) + column;
  };
  const int32_t steps = (cached + Tile::kStageTokens - 1) / Tile::kStageTokens;
  const auto fetch = [&](int32_t step) {
    HIMAP_UNROLL
    for (int32_t b = 0; b < Tile::kBatch; ++b) {
      const int32_t token = step * Tile::kStageTokens + b * Tile::kGroups + group;
      const bool there = active && token < cached;
      HIMAP_UNROLL
      for (int32_t value = 0; value < 2; ++value) {
        const auto* from = reinterpret_cast<const Vec16*>(there ? place(token, value) : static_cast<const P*>(a.pool));
        HIMAP_UNROLL
        for (int32_t i = 0; i < Tile::kVectors; ++i) {
          copy_async_16(&shared.ring[step % Tile::kStages][b][value][i][thread_id()], from + (there ? i : 0), there ? 16 : 0);
        }
      }
    }
  };
  HIMAP_UNROLL
  for (int32_t stage = 0; stage < Tile::kStages - 1; ++stage) {
    if (stage < steps) fetch(stage);
    copy_async_commit();
  }

  const T* values = static_cast<const T*>(a.qkv) + int64_t{row} * (a.heads + 2 * kv_heads) * head_dim;
  const int64_t angle = int64_t{a.positions[row]} * (head_dim / 2);
  float q[kChunk] = {};
  if (active) {
    load_rotated(q, values + int64_t{head} * head_dim, column, head_dim, a.cos + angle, a.sin + angle);
    HIMAP_UNROLL
    for (int32_t i = 0; i < kChunk; ++i) q[i] *= a.scale * 1.44269504f;  // softmax in powers of two
  }
  const auto dot = [&](const float (&k)[kChunk]) {
    float sum = 0;
    HIMAP_UNROLL
    for (int32_t i = 0; i < kChunk; ++i) sum = fmaf(q[i], k[i], sum);
    return sum;
  };

  DecodeState state;
  if (has_newest) {
    float k[kChunk] = {}, v[kChunk] = {};
    if (active) {
      load_rotated(k, values + int64_t{a.heads + kv_head} * head_dim, column, head_dim, a.cos + angle, a.sin + angle);
      load_chunk(v, values + int64_t{a.heads + kv_heads + kv_head} * head_dim + column);
      HIMAP_UNROLL
      for (int32_t i = 0; i < kChunk; ++i) {  // as they will be read from the pool
        k[i] = to_float(round_to<P>(k[i]));
        v[i] = to_float(round_to<P>(v[i]));
      }
      if (group == 0 && head % sharers == 0) {
        store_chunk(place(cached, 0), k);
        store_chunk(place(cached, 1), v);
      }
    }
    float score = dot(k);
    HIMAP_UNROLL
    for (int32_t distance = Tile::kLanes / 2; distance > 0; distance >>= 1) score += shuffle_xor(score, distance);
    if (group == 0) {
      state.high = score;
      state.total = 1;
      HIMAP_UNROLL
      for (int32_t i = 0; i < kChunk; ++i) state.sum[i] = v[i];
    }
  }

  for (int32_t step = 0; step < steps; ++step) {
    if (step + Tile::kStages - 1 < steps) fetch(step + Tile::kStages - 1);
    copy_async_commit();
    copy_async_wait<Tile::kStages - 1>();
    const auto& stage = shared.ring[step % Tile::kStages];
    float score[Tile::kBatch];
    HIMAP_UNROLL
    for (int32_t b = 0; b < Tile::kBatch; ++b) {
      float k[kChunk];
      load_from_ring<P>(k, stage[b][0]);
      score[b] = dot(k);
    }
    HIMAP_UNROLL
    for (int32_t distance = Tile::kLanes / 2; distance > 0; distance >>= 1) {
      HIMAP_UNROLL
      for (int32_t b = 0; b < Tile::kBatch; ++b) score[b] += shuffle_xor(score[b], distance);
    }
    // The first token of a group's batch is the earliest: without it there is none.
    const int32_t token = step * Tile::kStageTokens + group;
    if (token >= cached) continue;
    float most = fmaxf(state.high, score[0]);
    HIMAP_UNROLL
    for (int32_t b = 1; b < Tile::kBatch; ++b) {
      if (token + b * Tile::kGroups >= cached) score[b] = -INFINITY;
      most = fmaxf(most, score[b]);
    }
    state.raise(most);
    HIMAP_UNROLL
    for (int32_t b = 0; b < Tile::kBatch; ++b) {
      const float weight = exp2_approx(score[b] - most);
      state.total += weight;
      float v[kChunk];
      load_from_ring<P>(v, stage[b][1]);
      HIMAP_UNROLL
      for (int32_t i = 0; i < kChunk; ++i) state.sum[i] = fmaf(weight, v[i], state.sum[i]);
    }
  }
  return state;
}

template <class Tile>
HIMAP_KERNEL(Tile::kThreads, 4) attention_decode_kernel(HIMAP_PARAMS(AttentionDecodeKernelParams) p) {
  using T = typename Tile::T;
  auto& shared = shared_struct<typename Tile::Shared>();
  const AttentionDecodeParams& a = p.attention;
  const int32_t split = block_x(), head = block_y(), row = block_z(), head_dim = a.layout.head_dim;
  constexpr int32_t kSplitPages = kDecodeSplit / kPageTokens;
  const int32_t length = a.lengths[row];
  if (split * kDecodeSplit >= length) return;
  if (const int32_t page = split * kSplitPages + thread_id(); thread_id() < kSplitPages && page < a.blocks) {
    shared.pages[thread_id()] = a.pages[int64_t{row} * a.blocks + page];
  }
  sync_threads();
  const DecodeState state = decode_split<Tile>(a, shared, length);

  const int32_t group = thread_id() / Tile::kLanes, column = thread_id() % Tile::kLanes * kChunk;
  HIMAP_UNROLL
  for (int32_t i = 0; i < kChunk; ++i) shared.sum[group][column + i] = state.sum[i];
  if (column == 0) {
    shared.high[group] = state.high;
    shared.total[group] = state.total;
  }
  sync_threads();
  float high = shared.high[0];
  for (int32_t g = 1; g < Tile::kGroups; ++g) high = fmaxf(high, shared.high[g]);
  const auto merged = [&](int32_t d, float& total) {
    float sum = 0;
    total = 0;
    for (int32_t g = 0; g < Tile::kGroups; ++g) {
      const float weight = exp2_approx(shared.high[g] - high);
      total = fmaf(weight, shared.total[g], total);
      sum = fmaf(weight, shared.sum[g][d], sum);
    }
    return sum;
  };

  T* y = static_cast<T*>(a.y) + (int64_t{row} * a.heads + head) * head_dim;
  const int32_t splits = (length + kDecodeSplit - 1) / kDecodeSplit;
  if (splits == 1) {
    for (int32_t d = thread_id(); d < head_dim; d += Tile::kThreads) {
      float total;
      const float sum = merged(d, total);
      y[d] = round_to<T>(sum / total);
    }
    return;
  }
  const int64_t at = int64_t{row} * a.heads + head;
  float* parts = p.partials + at * grid_x() * (2 + head_dim);
  float* part = parts + int64_t{split} * (2 + head_dim);
  for (int32_t d = thread_id(); d < head_dim; d += Tile::kThreads) {
    float total;
    part[2 + d] = merged(d, total);
    if (d > 0) continue;
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
    float sum = 0, total = 0;
    for (int32_t s = 0; s < splits; ++s) {
      const float* one = parts + int64_t{s} * (2 + head_dim);
      const float weight = exp2_approx(one[0] - most);
      total = fmaf(weight, one[1], total);
      sum = fmaf(weight, one[2 + d], sum);
    }
    y[d] = round_to<T>(sum / total);
  }
}

}  // namespace himap::device
