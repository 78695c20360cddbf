// Attention of whole prompts with mma.sync and cp.async: online softmax over key tiles, and as a compile-time policy a
// second pass that sums the voters' probabilities down the wanted columns.
//
// Grid (query tiles of the longest sequence, heads, sequences); a block of four warps owns 64 query rows of a head, 16 to
// a warp. Late tiles of a causal prompt see the most keys and go first. Keys and values pass through two slots of shared
// memory, the next tile's copies under way while one is computed.
// Moves: q once; k and v once per query tile that sees them (L2); for the sums the voters' tiles read the columns' keys
// again. Sums are stored once, no atomics.
// Bits: a row's result depends on its own sequence alone; a column's sum is taken over lanes, then warps, in fixed order.
// Head dimensions that are no power of two are padded with zeros in shared memory.
#pragma once

#include "kernels/attention_prefill/attention_prefill.h"
#include "kernels/device.h"

namespace himap::device {

struct AttentionPrefillKernelParams {
  AttentionPrefillParams attention;
  ColumnSums sums;  // where kSums
};

template <class T_, int32_t kHeadDim_, bool kSums_>
struct PrefillTile {
  using T = T_;
  static constexpr int32_t kHeadDim = kHeadDim_;
  static constexpr bool kSums = kSums_;
  static constexpr int32_t kRows = kQueryTile;
  static constexpr int32_t kKeys = 64;
  static constexpr int32_t kWarps = kRows / 16;
  static constexpr int32_t kThreads = kWarps * 32;
  static constexpr int32_t kStride = kHeadDim + 8;  // 16 bytes more: the eight rows of an ldmatrix meet eight groups of banks
  static constexpr int32_t kKeyFragments = kKeys / 8;
  static constexpr int32_t kOutFragments = kHeadDim / 8;

  struct Shared {
    alignas(16) T q[kRows * kStride];
    alignas(16) T k[2][kKeys * kStride];
    alignas(16) T v[2][kKeys * kStride];
    float column[kSums ? kMaxVoterGroups : 1][kWarps][kKeys];
    uint32_t voters[kWarps];
  };
  using Scores = float[kKeyFragments][4];
};

/** Starts copying 64 rows of one head: `rows` of them exist, the rest and the padding of the head become zero. */
template <class Tile>
HIMAP_DEVICE void prefill_fetch(typename Tile::T* to, const typename Tile::T* from, int64_t stride, int32_t rows, int32_t head_dim) {
  constexpr int32_t kChunks = Tile::kHeadDim / 8;
  HIMAP_UNROLL
  for (int32_t i = 0; i < 64 * kChunks; i += Tile::kThreads) {
    const int32_t row = (i + thread_id()) / kChunks, column = (i + thread_id()) % kChunks * 8;
    const bool there = row < rows && column < head_dim;
    copy_async_16(to + row * Tile::kStride + column, there ? from + row * stride + column : from, there ? 16 : 0);
  }
}

/** The warp's 16 query rows against 64 keys. */
template <class Tile>
HIMAP_DEVICE void prefill_scores(typename Tile::Scores& s, const typename Tile::T* q, const typename Tile::T* k) {
  const int32_t lane = lane_id();
  HIMAP_UNROLL
  for (int32_t n = 0; n < Tile::kKeyFragments; ++n) {
    HIMAP_UNROLL
    for (int32_t e = 0; e < 4; ++e) s[n][e] = 0;
  }
  HIMAP_UNROLL
  for (int32_t d = 0; d < Tile::kHeadDim; d += 32) {
    uint32_t a[2][4];
    HIMAP_UNROLL
    for (int32_t step = 0; step < 2; ++step) {
      load_matrix_x4(a[step], q + (warp_id() * 16 + lane % 16) * Tile::kStride + d + step * 16 + lane / 16 * 8);
    }
    HIMAP_UNROLL
    for (int32_t n = 0; n < Tile::kKeyFragments; ++n) {
      uint32_t b[4];
      load_matrix_x4(b, k + (n * 8 + lane % 8) * Tile::kStride + d + lane / 8 * 8);
      HIMAP_UNROLL
      for (int32_t step = 0; step < 2; ++step) {
        const uint32_t pair[2] = {b[2 * step], b[2 * step + 1]};
        mma_m16n8k16<typename Tile::T>(s[n], a[step], pair);
      }
    }
  }
}

/** One query tile's softmax state: a row's values lie in the four lanes of a group, two rows to a lane. */
template <class Tile>
struct PrefillState {
  float out[Tile::kOutFragments][4];
  float high[2];   // largest scaled score so far
  float total[2];  // sum of exp2(score - high) over this lane's columns

  HIMAP_DEVICE void clear() {
    HIMAP_UNROLL
    for (int32_t n = 0; n < Tile::kOutFragments; ++n) {
      HIMAP_UNROLL
      for (int32_t e = 0; e < 4; ++e) out[n][e] = 0;
    }
    high[0] = high[1] = -INFINITY;
    total[0] = total[1] = 0;
  }

  /** Takes in 64 keys: `s` are their scaled scores, -infinity where a row does not see a key. */
  HIMAP_DEVICE void add(typename Tile::Scores& s, const typename Tile::T* v) {
    HIMAP_UNROLL
    for (int32_t r = 0; r < 2; ++r) {
      float most = high[r];
      HIMAP_UNROLL
      for (int32_t n = 0; n < Tile::kKeyFragments; ++n) most = fmaxf(most, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
      most = fmaxf(most, shuffle_xor(most, 1));
      most = fmaxf(most, shuffle_xor(most, 2));
      const float shrink = exp2_approx(high[r] - most);
      high[r] = most;
      total[r] *= shrink;
      HIMAP_UNROLL
      for (int32_t n = 0; n < Tile::kOutFragments; ++n) {
        out[n][2 * r] *= shrink;
        out[n][2 * r + 1] *= shrink;
      }
      HIMAP_UNROLL
      for (int32_t n = 0; n < Tile::kKeyFragments; ++n) {
        HIMAP_UNROLL
        for (int32_t e = 2 * r; e < 2 * r + 2; ++e) {
          s[n][e] = exp2_approx(s[n][e] - most);
          total[r] += s[n][e];
        }
      }
    }
    const int32_t lane = lane_id();
    HIMAP_UNROLL
    for (int32_t k = 0; k < Tile::kKeys / 16; ++k) {
      using T = typename Tile::T;
      const float(&left)[4] = s[2 * k];
      const float(&right)[4] = s[2 * k + 1];
      const uint32_t a[4] = {pack<T>(left[0], left[1]), pack<T>(left[2], left[3]), pack<T>(right[0], right[1]),
                             pack<T>(right[2], right[3])};
      HIMAP_UNROLL
      for (int32_t n = 0; n < Tile::kOutFragments; n += 2) {
        uint32_t b[4];
        load_matrix_x4_trans(b, v + (k * 16 + lane % 16) * Tile::kStride + n * 8 + lane / 16 * 8);
        const uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
        mma_m16n8k16<T>(out[n], a, first);
        mma_m16n8k16<T>(out[n + 1], a, second);
      }
    }
  }

  /** Completes the rows' totals. */
  HIMAP_DEVICE void finish() {
    HIMAP_UNROLL
    for (int32_t r = 0; r < 2; ++r) {
      total[r] += shuffle_xor(total[r], 1);
      total[r] += shuffle_xor(total[r], 2);
    }
  }
};

/** Where one block works. */
template <class T>
struct PrefillPlace {
  const T* q;  // of the head, first row of the sequence
  const T* k;
  const T* v;
  int64_t stride;  // of a row of qkv
  int32_t row0;    // of the sequence in the batch
  int32_t length;
  int32_t first;   // row of the tile in the sequence
  int32_t tile;
  int32_t tiles;
};

/** The second pass: sums down the columns, of the rows that vote in each group. */
template <class Tile>
HIMAP_DEVICE void prefill_column_sums(const AttentionPrefillKernelParams& p, const PrefillPlace<typename Tile::T>& at,
                                      const PrefillState<Tile>& state, float scale) {
  auto& shared = shared_struct<typename Tile::Shared>();
  const ColumnSums& sums = p.sums;
  const int32_t sequence = block_z(), group_of_lane = lane_id() / 4, t = lane_id() % 4;
  const int32_t first_column = sums.columns[2 * sequence], end_column = sums.columns[2 * sequence + 1];
  const int32_t columns = end_column - first_column;
  if (columns == 0) return;
  float* to = sums.sums + sums.offsets[sequence] + (int64_t{block_y()} * at.tiles + at.tile) * sums.groups * columns;

  uint32_t every = 0;
  for (int32_t g = 0; g < sums.groups; ++g) every |= sums.group_masks[g];
  const int32_t row = at.first + warp_id() * 16 + group_of_lane;
  uint32_t votes[2];
  float log_total[2];
  HIMAP_UNROLL
  for (int32_t r = 0; r < 2; ++r) {
    votes[r] = row + 8 * r < at.length ? sums.votes[at.row0 + row + 8 * r] : 0u;
    log_total[r] = state.high[r] + log2f(state.total[r]);
  }
  const uint32_t voters = ballot(((votes[0] | votes[1]) & every) != 0);
  if (lane_id() == 0) shared.voters[warp_id()] = voters;
  sync_threads();
  uint32_t any = 0;
  HIMAP_UNROLL
  for (int32_t w = 0; w < Tile::kWarps; ++w) any |= shared.voters[w];

  // Columns that no voter of this tile sees are zero.
  const int32_t seen = !any ? 0 : p.attention.causal && at.first + Tile::kRows < at.length ? at.first + Tile::kRows : at.length;
  const int32_t summed = seen > first_column ? (seen < end_column ? seen : end_column) - first_column : 0;
  for (int32_t g = 0; g < sums.groups; ++g) {
    for (int32_t c = summed + thread_id(); c < columns; c += Tile::kThreads) to[int64_t{g} * columns + c] = 0;
  }
  for (int32_t c0 = 0; c0 < summed; c0 += Tile::kKeys) {
    sync_threads();  // all have left the slot and the last columns
    const int32_t left = summed - c0 < Tile::kKeys ? summed - c0 : Tile::kKeys;
    prefill_fetch<Tile>(shared.k[0], at.k + (first_column + c0) * at.stride, at.stride, left, p.attention.head_dim);
    copy_async_commit();
    copy_async_wait<0>();
    sync_threads();
    typename Tile::Scores s;
    prefill_scores<Tile>(s, shared.q, shared.k[0]);
    HIMAP_UNROLL
    for (int32_t n = 0; n < Tile::kKeyFragments; ++n) {
      HIMAP_UNROLL
      for (int32_t e = 0; e < 4; ++e) {
        const int32_t column = first_column + c0 + n * 8 + 2 * t + e % 2;
        const bool sees = !p.attention.causal || column <= row + 8 * (e / 2);
        s[n][e] = sees ? exp2_approx(s[n][e] * scale - log_total[e / 2]) : 0.0f;
      }
    }
    for (int32_t g = 0; g < sums.groups; ++g) {
      const bool upper = votes[0] & sums.group_masks[g], lower = votes[1] & sums.group_masks[g];
      HIMAP_UNROLL
      for (int32_t n = 0; n < Tile::kKeyFragments; ++n) {
        HIMAP_UNROLL
        for (int32_t c = 0; c < 2; ++c) {
          float sum = (upper ? s[n][c] : 0.0f) + (lower ? s[n][2 + c] : 0.0f);
          HIMAP_UNROLL
          for (int32_t distance = 4; distance <= 16; distance <<= 1) sum += shuffle_xor(sum, distance);
          if (group_of_lane == 0) shared.column[g][warp_id()][n * 8 + 2 * t + c] = sum;
        }
      }
    }
    sync_threads();
    for (int32_t i = thread_id(); i < sums.groups * Tile::kKeys; i += Tile::kThreads) {
      const int32_t g = i / Tile::kKeys, c = i % Tile::kKeys;
      if (c >= left) continue;
      float sum = 0;
      HIMAP_UNROLL
      for (int32_t w = 0; w < Tile::kWarps; ++w) sum += shared.column[g][w][c];
      to[int64_t{g} * columns + c0 + c] = sum;
    }
  }
}

template <class Tile>
HIMAP_KERNEL(Tile::kThreads, 1) attention_prefill_kernel(HIMAP_PARAMS(AttentionPrefillKernelParams) p) {
  using T = typename Tile::T;
  auto& shared = shared_struct<typename Tile::Shared>();
  const AttentionPrefillParams& a = p.attention;
  const int32_t head = block_y(), row0 = a.cu_rows[block_z()], length = a.cu_rows[block_z() + 1] - row0;
  const int32_t tiles = (length + Tile::kRows - 1) / Tile::kRows;
  if (block_x() >= tiles) return;
  const int64_t stride = (int64_t{a.heads} + 2 * a.kv_heads) * a.head_dim;
  const int32_t kv_head = head / (a.heads / a.kv_heads), tile = tiles - 1 - block_x();
  const T* rows = static_cast<const T*>(a.qkv) + row0 * stride;
  const PrefillPlace<T> at{.q = rows + int64_t{head} * a.head_dim,
                           .k = rows + (int64_t{a.heads} + kv_head) * a.head_dim,
                           .v = rows + (int64_t{a.heads} + a.kv_heads + kv_head) * a.head_dim,
                           .stride = stride,
                           .row0 = row0,
                           .length = length,
                           .first = tile * Tile::kRows,
                           .tile = tile,
                           .tiles = tiles};
  const int32_t seen = a.causal && at.first + Tile::kRows < length ? at.first + Tile::kRows : length;
  const auto fetch = [&](int32_t key) {
    if (key < seen) {
      const int32_t slot = key / Tile::kKeys % 2;
      prefill_fetch<Tile>(shared.k[slot], at.k + key * stride, stride, length - key, a.head_dim);
      prefill_fetch<Tile>(shared.v[slot], at.v + key * stride, stride, length - key, a.head_dim);
    }
    copy_async_commit();
  };
  prefill_fetch<Tile>(shared.q, at.q + at.first * stride, stride, length - at.first, a.head_dim);
  fetch(0);

  const float scale = a.scale * 1.44269504f;  // softmax in powers of two
  const int32_t row = at.first + warp_id() * 16 + lane_id() / 4;
  PrefillState<Tile> state;
  state.clear();
  for (int32_t key = 0; key < seen; key += Tile::kKeys) {
    fetch(key + Tile::kKeys);
    copy_async_wait<1>();
    sync_threads();
    const int32_t slot = key / Tile::kKeys % 2;
    typename Tile::Scores s;
    prefill_scores<Tile>(s, shared.q, shared.k[slot]);
    HIMAP_UNROLL
    for (int32_t n = 0; n < Tile::kKeyFragments; ++n) {
      HIMAP_UNROLL
      for (int32_t e = 0; e < 4; ++e) {
        const int32_t column = key + n * 8 + lane_id() % 4 * 2 + e % 2;
        const bool sees = a.causal ? column <= row + 8 * (e / 2) : column < length;
        s[n][e] = sees ? s[n][e] * scale : -INFINITY;
      }
    }
    state.add(s, shared.v[slot]);
    sync_threads();  // all have left the slot that is filled next
  }
  state.finish();

  HIMAP_UNROLL
  for (int32_t r = 0; r < 2; ++r) {
    if (row + 8 * r >= length) continue;
    const float divided = 1.0f / state.total[r];
    T* y = static_cast<T*>(a.y) + ((int64_t{row0} + row + 8 * r) * a.heads + head) * a.head_dim;
    HIMAP_UNROLL
    for (int32_t n = 0; n < Tile::kOutFragments; ++n) {
      const int32_t column = n * 8 + lane_id() % 4 * 2;
      if (column >= a.head_dim) continue;
      *reinterpret_cast<uint32_t*>(y + column) = pack<T>(state.out[n][2 * r] * divided, state.out[n][2 * r + 1] * divided);
    }
  }
  if constexpr (Tile::kSums) prefill_column_sums<Tile>(p, at, state, scale);
}

}  // namespace himap::device
