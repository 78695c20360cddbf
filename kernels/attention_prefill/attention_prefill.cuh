// Attention of whole prompts with mma.sync and cp.async: online softmax over key tiles, and as a compile-time policy a
// second pass that sums the voters' probabilities down the wanted columns.
//
// Grid (heads, sequences, query tiles of the longest sequence); a block of four warps owns 64 query rows of a head, 16 to
// a warp. Blocks start with the last dimension slowest, so the late tiles of every head and sequence go first: they see the
// most keys of a causal prompt, and in them lie the rows that vote. Queries stay in registers. Keys and values pass through
// two pairs of slots in shared memory, the next tile's copies under way while one is computed; the second pass takes all
// four slots for keys, three tiles ahead.
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

  static constexpr int32_t kSteps = kHeadDim / 16;
  static constexpr int32_t kSlots = 4;
  static constexpr int32_t kQuerySlot = 2;  // of the second pair, which is needed later
  static constexpr int32_t kBlocks = 2;  // at least on a multiprocessor; three of 64 columns would spill

  struct Shared {
    alignas(16) T slot[kSlots][kKeys * kStride];  // keys in the even ones, values in the odd; of the sums: keys
    float column[kSums ? kMaxVoterGroups : 1][kWarps][kKeys];
    uint32_t voters[kWarps];
  };
  using Scores = float[kKeyFragments][4];
  using Queries = uint32_t[kSteps][4];  // the warp's 16 rows, as the mma's left operand
  static_assert(kRows == kKeys, "queries come through a slot of keys");
};

/**
 * Starts copying 64 rows of one head: `rows` of them exist, the rest and the padding of the head become zero. A loop that
 * stays one: unrolled, its addresses would live in registers throughout the walk over the keys.
 */
template <class Tile>
HIMAP_DEVICE void prefill_fetch(typename Tile::T* to, const typename Tile::T* from, int32_t stride, int32_t rows, int32_t head_dim) {
  constexpr int32_t kChunks = Tile::kHeadDim / 8, kRowsAtOnce = Tile::kThreads / kChunks;
  const int32_t first = thread_id() / kChunks, column = thread_id() % kChunks * 8;
  const typename Tile::T* row = from + int64_t{first} * stride + column;
  to += first * Tile::kStride + column;
  HIMAP_ROLLED
  for (int32_t r = first; r < Tile::kKeys; r += kRowsAtOnce, row += kRowsAtOnce * stride, to += kRowsAtOnce * Tile::kStride) {
    const bool there = r < rows && column < head_dim;
    copy_async_16(to, there ? row : from, there ? 16 : 0);  // of no bytes nothing is read, yet the address must be one
  }
}

/** The warp's 16 query rows against 64 keys. */
template <class Tile>
HIMAP_DEVICE void prefill_scores(typename Tile::Scores& s, const typename Tile::Queries& q, const typename Tile::T* k) {
  const int32_t lane = lane_id();
  HIMAP_UNROLL
  for (int32_t n = 0; n < Tile::kKeyFragments; ++n) {
    HIMAP_UNROLL
    for (int32_t e = 0; e < 4; ++e) s[n][e] = 0;
  }
  HIMAP_UNROLL
  for (int32_t step = 0; step < Tile::kSteps; step += 2) {
    HIMAP_UNROLL
    for (int32_t n = 0; n < Tile::kKeyFragments; ++n) {
      uint32_t b[4];
      load_matrix_x4(b, k + (n * 8 + lane % 8) * Tile::kStride + step * 16 + lane / 8 * 8);
      const uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
      mma_m16n8k16<typename Tile::T>(s[n], q[step], first);
      mma_m16n8k16<typename Tile::T>(s[n], q[step + 1], second);
    }
  }
}

/** One query tile's softmax state: a row's values lie in the four lanes of a group, two rows to a lane. */
template <class Tile>
struct PrefillState {
  float out[Tile::kOutFragments][4];
  float high[2];   // largest score so far
  float total[2];  // sum of exp2(scale (score - high)) over this lane's columns

  HIMAP_DEVICE void clear() {
    HIMAP_UNROLL
    for (int32_t n = 0; n < Tile::kOutFragments; ++n) {
      HIMAP_UNROLL
      for (int32_t e = 0; e < 4; ++e) out[n][e] = 0;
    }
    high[0] = high[1] = -INFINITY;
    total[0] = total[1] = 0;
  }

  /** Takes in 64 keys: `s` are their scores, -infinity where a row does not see a key; `scale` is positive. */
  HIMAP_DEVICE void add(const typename Tile::Scores& s, const typename Tile::T* v, float scale) {
    using T = typename Tile::T;
    uint32_t weights[Tile::kKeys / 16][4];  // as the mma's left operand
    HIMAP_UNROLL
    for (int32_t r = 0; r < 2; ++r) {
      float most = high[r];
      HIMAP_UNROLL
      for (int32_t n = 0; n < Tile::kKeyFragments; ++n) most = fmaxf(most, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
      most = fmaxf(most, shuffle_xor(most, 1));
      most = fmaxf(most, shuffle_xor(most, 2));
      const float shrink = exp2_approx((high[r] - most) * scale), shift = -most * scale;
      high[r] = most;
      total[r] *= shrink;
      HIMAP_UNROLL
      for (int32_t n = 0; n < Tile::kOutFragments; ++n) {
        out[n][2 * r] *= shrink;
        out[n][2 * r + 1] *= shrink;
      }
      HIMAP_UNROLL
      for (int32_t n = 0; n < Tile::kKeyFragments; ++n) {
        const float first = exp2_approx(fmaf(s[n][2 * r], scale, shift)), second = exp2_approx(fmaf(s[n][2 * r + 1], scale, shift));
        total[r] += first + second;
        weights[n / 2][n % 2 * 2 + r] = pack<T>(first, second);
      }
    }
    const int32_t lane = lane_id();
    HIMAP_UNROLL
    for (int32_t k = 0; k < Tile::kKeys / 16; ++k) {
      HIMAP_UNROLL
      for (int32_t n = 0; n < Tile::kOutFragments; n += 2) {
        uint32_t b[4];
        load_matrix_x4_trans(b, v + (k * 16 + lane % 16) * Tile::kStride + n * 8 + lane / 16 * 8);
        const uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
        mma_m16n8k16<T>(out[n], weights[k], first);
        mma_m16n8k16<T>(out[n + 1], weights[k], second);
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
  const T* k;      // of the head, first row of the sequence
  int32_t stride;  // of a row of qkv
  int32_t row0;    // of the sequence in the batch
  int32_t length;
  int32_t first;   // row of the tile in the sequence
  int32_t tile;
  int32_t tiles;
};

/** Sums a warp's 16 rows of probabilities down each of 64 columns; a lane's two rows count where they vote. */
template <class Tile>
HIMAP_DEVICE void prefill_warp_sums(float (&to)[Tile::kKeys], const typename Tile::Scores& s, bool upper, bool lower) {
  HIMAP_UNROLL
  for (int32_t n = 0; n < Tile::kKeyFragments; ++n) {
    HIMAP_UNROLL
    for (int32_t c = 0; c < 2; ++c) {
      float sum = (upper ? s[n][c] : 0.0f) + (lower ? s[n][2 + c] : 0.0f);
      HIMAP_UNROLL
      for (int32_t distance = 4; distance <= 16; distance <<= 1) sum += shuffle_xor(sum, distance);
      if (lane_id() < 4) to[n * 8 + 2 * lane_id() + c] = sum;
    }
  }
}

/** The second pass: sums down the columns, of the rows that vote in each group. */
template <class Tile>
HIMAP_DEVICE void prefill_column_sums(const AttentionPrefillKernelParams& p, const PrefillPlace<typename Tile::T>& at,
                                      const typename Tile::Queries& q, const PrefillState<Tile>& state, float scale) {
  auto& shared = shared_struct<typename Tile::Shared>();
  const ColumnSums& sums = p.sums;
  const int32_t sequence = block_y(), t = lane_id() % 4;
  const int32_t first_column = sums.columns[2 * sequence], end_column = sums.columns[2 * sequence + 1];
  const int32_t columns = end_column - first_column;
  if (columns == 0) return;
  float* to = sums.sums + sums.offsets[sequence] + (int64_t{block_x()} * at.tiles + at.tile) * sums.groups * columns;

  uint32_t every = 0;
  for (int32_t g = 0; g < sums.groups; ++g) every |= sums.group_masks[g];
  const int32_t row = at.first + warp_id() * 16 + lane_id() / 4;
  uint32_t votes[2];
  float log_total[2];
  HIMAP_UNROLL
  for (int32_t r = 0; r < 2; ++r) {
    votes[r] = row + 8 * r < at.length ? sums.votes[at.row0 + row + 8 * r] : 0u;
    log_total[r] = state.high[r] * scale + log2f(state.total[r]);
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
  const auto left_of = [&](int32_t c0) { return summed - c0 < Tile::kKeys ? summed - c0 : Tile::kKeys; };
  const auto fetch = [&](int32_t c0) {
    if (c0 < summed) {
      prefill_fetch<Tile>(shared.slot[c0 / Tile::kKeys % Tile::kSlots], at.k + int64_t{first_column + c0} * at.stride, at.stride, left_of(c0),
                          p.attention.head_dim);
    }
    copy_async_commit();
  };
  HIMAP_UNROLL
  for (int32_t ahead = 0; ahead < Tile::kSlots - 1; ++ahead) fetch(ahead * Tile::kKeys);
  for (int32_t c0 = 0; c0 < summed; c0 += Tile::kKeys) {
    copy_async_wait<Tile::kSlots - 2>();
    sync_threads();  // the slot is full for all, and all have left the one before it and the last columns
    fetch(c0 + (Tile::kSlots - 1) * Tile::kKeys);
    if (voters) {
      typename Tile::Scores s;
      prefill_scores<Tile>(s, q, shared.slot[c0 / Tile::kKeys % Tile::kSlots]);
      HIMAP_UNROLL
      for (int32_t n = 0; n < Tile::kKeyFragments; ++n) {
        HIMAP_UNROLL
        for (int32_t e = 0; e < 4; ++e) {
          const int32_t column = first_column + c0 + n * 8 + 2 * t + e % 2;
          const bool sees = !p.attention.causal || column <= row + 8 * (e / 2);
          s[n][e] = sees ? exp2_approx(fmaf(s[n][e], scale, -log_total[e / 2])) : 0.0f;
        }
      }
      for (int32_t g = 0; g < sums.groups; ++g) {
        prefill_warp_sums<Tile>(shared.column[g][warp_id()], s, votes[0] & sums.group_masks[g], votes[1] & sums.group_masks[g]);
      }
    } else {
      for (int32_t g = 0; g < sums.groups; ++g) {
        for (int32_t c = lane_id(); c < Tile::kKeys; c += 32) shared.column[g][warp_id()][c] = 0;
      }
    }
    sync_threads();
    for (int32_t i = thread_id(); i < sums.groups * Tile::kKeys; i += Tile::kThreads) {
      const int32_t g = i / Tile::kKeys, c = i % Tile::kKeys;
      if (c >= left_of(c0)) continue;
      float sum = 0;
      HIMAP_UNROLL
      for (int32_t w = 0; w < Tile::kWarps; ++w) sum += shared.column[g][w][c];
      to[int64_t{g} * columns + c0 + c] = sum;
    }
  }
}

template <class Tile>
HIMAP_KERNEL(Tile::kThreads, Tile::kBlocks) attention_prefill_kernel(HIMAP_PARAMS(AttentionPrefillKernelParams) p) {
  using T = typename Tile::T;
  auto& shared = shared_struct<typename Tile::Shared>();
  const AttentionPrefillParams& a = p.attention;
  const int32_t head = block_x(), row0 = a.cu_rows[block_y()], length = a.cu_rows[block_y() + 1] - row0;
  const int32_t tiles = (length + Tile::kRows - 1) / Tile::kRows, tile = grid_z() - 1 - block_z();
  if (tile >= tiles) return;
  const int32_t stride = (a.heads + 2 * a.kv_heads) * a.head_dim, values = a.kv_heads * a.head_dim;  // a value stands so far behind its key
  const int32_t kv_head = head / (a.heads / a.kv_heads);
  const T* rows = static_cast<const T*>(a.qkv) + int64_t{row0} * stride;
  const PrefillPlace<T> at{.k = rows + (a.heads + kv_head) * a.head_dim,
                           .stride = stride,
                           .row0 = row0,
                           .length = length,
                           .first = tile * Tile::kRows,
                           .tile = tile,
                           .tiles = tiles};
  const int32_t seen = a.causal && at.first + Tile::kRows < length ? at.first + Tile::kRows : length;
  const auto fetch = [&](int32_t key) {
    if (key < seen) {
      const int32_t pair = key / Tile::kKeys % 2 * 2;
      const T* from = at.k + int64_t{key} * stride;
      prefill_fetch<Tile>(shared.slot[pair], from, stride, length - key, a.head_dim);
      prefill_fetch<Tile>(shared.slot[pair + 1], from + values, stride, length - key, a.head_dim);
    }
    copy_async_commit();
  };
  prefill_fetch<Tile>(shared.slot[Tile::kQuerySlot], rows + int64_t{at.first} * stride + head * a.head_dim, stride, length - at.first, a.head_dim);
  copy_async_commit();
  fetch(0);
  copy_async_wait<1>();
  sync_threads();
  typename Tile::Queries q;
  HIMAP_UNROLL
  for (int32_t step = 0; step < Tile::kSteps; ++step) {
    load_matrix_x4(q[step], shared.slot[Tile::kQuerySlot] + (warp_id() * 16 + lane_id() % 16) * Tile::kStride + step * 16 + lane_id() / 16 * 8);
  }
  sync_threads();  // all have their queries

  const float scale = a.scale * 1.44269504f;  // softmax in powers of two
  const int32_t row = at.first + warp_id() * 16 + lane_id() / 4;
  // Keys before this one are seen by every row of the tile.
  const int32_t seen_by_all = a.causal ? at.first + 1 : length;
  const int32_t last_seen[2] = {a.causal ? row : length - 1, a.causal ? row + 8 : length - 1};
  PrefillState<Tile> state;
  state.clear();
  for (int32_t key = 0; key < seen; key += Tile::kKeys) {
    fetch(key + Tile::kKeys);
    copy_async_wait<1>();
    sync_threads();
    const int32_t pair = key / Tile::kKeys % 2 * 2;
    typename Tile::Scores s;
    prefill_scores<Tile>(s, q, shared.slot[pair]);
    if (key + Tile::kKeys > seen_by_all) {
      HIMAP_UNROLL
      for (int32_t n = 0; n < Tile::kKeyFragments; ++n) {
        HIMAP_UNROLL
        for (int32_t e = 0; e < 4; ++e) {
          const int32_t column = key + n * 8 + lane_id() % 4 * 2 + e % 2;
          if (column > last_seen[e / 2]) s[n][e] = -INFINITY;
        }
      }
    }
    state.add(s, shared.slot[pair + 1], scale);
    sync_threads();  // all have left the slots that are filled next
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
  if constexpr (Tile::kSums) prefill_column_sums<Tile>(p, at, q, state, scale);
}

}  // namespace himap::device
