// The matrix product of both phases, with mma.sync and cp.async, for every card: y^T (columns x rows) = W x^T. On Hopper
// sm90_linear.cuh is chosen over it, except for rows of x at addresses that TMA cannot take.
//
// A block owns kTileOut rows of the weight's image and kTileRows rows of x, and walks `in` in steps of 64. Weights are
// the mma's A operand (16 rows), tokens its B operand (8 columns), so few tokens waste little. Both operands come through
// a ring of kStages slots in shared memory, filled by asynchronous copies; one barrier per step.
//
// Grid: prefill (blocks in groups of kRowTileGroup row tiles, so that a weight tile meets its rows while it is in L2);
// decode (out tiles, row tiles, splits of `in`).
// Moves: the image once per row tile, x once per out tile, y once.
// Bits: an output is one chain of mma in ascending `in`, in one accumulator, whatever the tile; a decode layer's chains
// are cut in splits by the weight's shape and added in ascending order. So a row's bits depend on its phase and the
// weight's shape only.
#pragma once

#include "kernels/device.h"
#include "kernels/linear/launch_linear.h"
#include "kernels/linear/linear_output.cuh"

namespace himap::device {

struct LinearKernelParams {
  const void* x;        // (rows, x_stride) T
  const unsigned char* image;
  LinearOutput out;
  float* partials;      // decode with splits > 1: (splits, row tiles, out tiles, fragments, threads) of 4 floats
  uint32_t* arrivals;   // (row tiles, out tiles)
  int64_t x_stride;
  int32_t in;
  int32_t in_tiles;
  int32_t out_tiles;    // of kTileOut
  int32_t row_tiles;    // of kTileRows
  int32_t splits;
};

/** Shapes of a block. Each warp owns kWarpOut x kWarpRows of the tile. `kAligned`: x can be copied 16 bytes at a time. */
template <class T_, int32_t kTileOut_, int32_t kTileRows_, int32_t kWarpOut, int32_t kWarpRows, int32_t kStages_, bool kAligned_>
struct LinearTile {
  using T = T_;
  static constexpr int32_t kTileOut = kTileOut_;
  static constexpr int32_t kTileRows = kTileRows_;
  static constexpr int32_t kStages = kStages_;
  static constexpr bool kAligned = kAligned_;
  static constexpr int32_t kWarpsOut = kTileOut / kWarpOut;
  static constexpr int32_t kThreads = kWarpsOut * (kTileRows / kWarpRows) * 32;
  static constexpr int32_t kM = kWarpOut / 16;
  static constexpr int32_t kN = kWarpRows / 8;
  static_assert(kImageRows % kTileOut == 0, "a block's rows lie in one tile of the image");

  struct Shared {
    alignas(128) unsigned char w[kStages][kTileOut * kImageRowBytes];
    alignas(128) unsigned char x[kStages][kTileRows * kImageRowBytes];
  };
  using Sums = float[kM][kN][4];
};

template <class T, bool kAligned>
using LinearPrefillTile = LinearTile<T, 64, 64, 32, 32, 4, kAligned>;
template <class T>
using LinearPrefillWideTile = LinearTile<T, 128, 128, 64, 32, 3, true>;
template <class T>
using LinearDecode8Tile = LinearTile<T, 64, 8, 16, 8, 8, true>;
template <class T, bool kAligned>
using LinearDecode32Tile = LinearTile<T, 64, 32, 16, 32, 6, kAligned>;
template <class T>
using LinearDecode128Tile = LinearTile<T, 64, 128, 16, 128, 4, true>;

/** Copies step `k` of the weight's and x's rows into a slot. */
template <class Tile>
HIMAP_DEVICE void linear_fetch(typename Tile::Shared& shared, const LinearKernelParams& p, int32_t slot, int32_t k, int32_t out_tile,
                               int32_t row0) {
  using T = typename Tile::T;
  const int64_t image_row = int64_t{out_tile} * Tile::kTileOut;
  const unsigned char* w = p.image + (image_row / kImageRows * p.in_tiles + k) * kImageTileBytes + image_row % kImageRows * kImageRowBytes;
  HIMAP_UNROLL
  for (int32_t i = 0; i < Tile::kTileOut * 8; i += Tile::kThreads) {
    const int32_t chunk = i + thread_id();
    if (Tile::kTileOut * 8 % Tile::kThreads == 0 || chunk < Tile::kTileOut * 8) {
      copy_async_16(&shared.w[slot][chunk * 16], w + chunk * 16, 16);
    }
  }
  HIMAP_UNROLL
  for (int32_t i = 0; i < Tile::kTileRows * 8; i += Tile::kThreads) {
    const int32_t chunk = i + thread_id();
    if (Tile::kTileRows * 8 % Tile::kThreads != 0 && chunk >= Tile::kTileRows * 8) continue;
    const int32_t row = chunk / 8, column = k * kImageColumns + chunk % 8 * 8;
    unsigned char* to = &shared.x[slot][row * kImageRowBytes + ((chunk % 8 ^ (row & 7)) << 4)];
    const int32_t left = row0 + row < p.out.rows ? p.in - column : 0;
    const T* from = static_cast<const T*>(p.x) + (left > 0 ? (row0 + row) * p.x_stride + column : 0);
    if constexpr (Tile::kAligned) {
      copy_async_16(to, from, left >= 8 ? 16 : left > 0 ? left * 2 : 0);
    } else {
      Vec16 values;
      HIMAP_UNROLL
      for (int32_t pair = 0; pair < 4; ++pair) {
        const uint32_t low = 2 * pair < left ? from[2 * pair].bits : 0u;
        const uint32_t high = 2 * pair + 1 < left ? from[2 * pair + 1].bits : 0u;
        values.word[pair] = low | high << 16;
      }
      *reinterpret_cast<Vec16*>(to) = values;
    }
  }
}

/** Adds one slot's 64 columns of `in` to the warp's sums. */
template <class Tile>
HIMAP_DEVICE void linear_multiply(typename Tile::Sums& sums, const typename Tile::Shared& shared, int32_t slot) {
  const int32_t lane = lane_id();
  const int32_t out0 = warp_id() % Tile::kWarpsOut * Tile::kM * 16, row0 = warp_id() / Tile::kWarpsOut * Tile::kN * 8;
  HIMAP_UNROLL
  for (int32_t half = 0; half < 2; ++half) {  // 32 columns: one load_matrix per 8 rows of x
    uint32_t b[Tile::kN][4];
    HIMAP_UNROLL
    for (int32_t n = 0; n < Tile::kN; ++n) {
      const int32_t row = row0 + n * 8 + lane % 8, chunk = half * 4 + lane / 8;
      load_matrix_x4(b[n], &shared.x[slot][row * kImageRowBytes + ((chunk ^ (row & 7)) << 4)]);
    }
    HIMAP_UNROLL
    for (int32_t step = 0; step < 2; ++step) {
      HIMAP_UNROLL
      for (int32_t m = 0; m < Tile::kM; ++m) {
        uint32_t a[4];
        const int32_t row = out0 + m * 16 + lane % 16, chunk = half * 4 + step * 2 + lane / 16;
        load_matrix_x4(a, &shared.w[slot][row * kImageRowBytes + ((chunk ^ (row & 7)) << 4)]);
        HIMAP_UNROLL
        for (int32_t n = 0; n < Tile::kN; ++n) {
          const uint32_t pair[2] = {b[n][2 * step], b[n][2 * step + 1]};
          mma_m16n8k16<typename Tile::T>(sums[m][n], a, pair);
        }
      }
    }
  }
}

/** The whole walk from tile `begin` to `end` of `in`. */
template <class Tile>
HIMAP_DEVICE void linear_walk(typename Tile::Sums& sums, const LinearKernelParams& p, int32_t out_tile, int32_t row_tile, int32_t begin,
                              int32_t end) {
  auto& shared = shared_struct<typename Tile::Shared>();
  const int32_t row0 = row_tile * Tile::kTileRows;
  HIMAP_UNROLL
  for (int32_t m = 0; m < Tile::kM; ++m) {
    HIMAP_UNROLL
    for (int32_t n = 0; n < Tile::kN; ++n) {
      HIMAP_UNROLL
      for (int32_t i = 0; i < 4; ++i) sums[m][n][i] = 0;
    }
  }
  HIMAP_UNROLL
  for (int32_t stage = 0; stage < Tile::kStages - 1; ++stage) {
    if (begin + stage < end) linear_fetch<Tile>(shared, p, stage, begin + stage, out_tile, row0);
    copy_async_commit();
  }
  int32_t slot = 0, free_slot = Tile::kStages - 1;
  for (int32_t k = begin; k < end; ++k) {
    copy_async_wait<Tile::kStages - 2>();
    sync_threads();  // the slot is full for all, and all have left the one that is filled next
    const int32_t next = k + Tile::kStages - 1;
    if (next < end) linear_fetch<Tile>(shared, p, free_slot, next, out_tile, row0);
    copy_async_commit();
    linear_multiply<Tile>(sums, shared, slot);
    slot = slot + 1 == Tile::kStages ? 0 : slot + 1;
    free_slot = free_slot + 1 == Tile::kStages ? 0 : free_slot + 1;
  }
}

/** From the sums of one warp to y. */
template <class Tile>
HIMAP_DEVICE void linear_finish(const typename Tile::Sums& sums, const LinearKernelParams& p, int32_t out_tile, int32_t row_tile) {
  const int32_t group0 = out_tile * (Tile::kTileOut / 16) + warp_id() % Tile::kWarpsOut * Tile::kM;
  const int32_t row0 = row_tile * Tile::kTileRows + warp_id() / Tile::kWarpsOut * Tile::kN * 8;
  HIMAP_UNROLL
  for (int32_t m = 0; m < Tile::kM; ++m) linear_output<typename Tile::T>(sums[m], p.out, group0 + m, row0);
}

template <class Tile>
HIMAP_KERNEL(Tile::kThreads, 1) linear_prefill_kernel(HIMAP_PARAMS(LinearKernelParams) p) {
  constexpr int32_t kRowTileGroup = 16;
  const int32_t group = block_x() / (kRowTileGroup * p.out_tiles), index = block_x() % (kRowTileGroup * p.out_tiles);
  const int32_t first = group * kRowTileGroup, left = p.row_tiles - first;
  const int32_t height = left < kRowTileGroup ? left : kRowTileGroup;
  const int32_t out_tile = index / height, row_tile = first + index % height;
  typename Tile::Sums sums;
  linear_walk<Tile>(sums, p, out_tile, row_tile, 0, p.in_tiles);
  linear_finish<Tile>(sums, p, out_tile, row_tile);
}

template <class Tile>
HIMAP_KERNEL(Tile::kThreads, 1) linear_decode_kernel(HIMAP_PARAMS(LinearKernelParams) p) {
  const int32_t out_tile = block_x(), row_tile = block_y(), split = block_z();
  typename Tile::Sums sums;
  linear_walk<Tile>(sums, p, out_tile, row_tile, split * p.in_tiles / p.splits, (split + 1) * p.in_tiles / p.splits);
  if (p.splits > 1) {
    // Every split leaves its sums; the last to come adds all of them, its own too, in ascending order.
    constexpr int64_t kFragments = Tile::kM * Tile::kN;
    const int64_t tile = int64_t{row_tile} * p.out_tiles + out_tile, tiles = int64_t{p.row_tiles} * p.out_tiles;
    const auto partial = [&](int32_t of, int32_t fragment) {
      return reinterpret_cast<Vec16*>(p.partials) + ((of * tiles + tile) * kFragments + fragment) * Tile::kThreads + thread_id();
    };
    HIMAP_UNROLL
    for (int32_t m = 0; m < Tile::kM; ++m) {
      HIMAP_UNROLL
      for (int32_t n = 0; n < Tile::kN; ++n) {
        const float(&s)[4] = sums[m][n];
        *partial(split, m * Tile::kN + n) = {{float_bits(s[0]), float_bits(s[1]), float_bits(s[2]), float_bits(s[3])}};
      }
    }
    auto& last = *shared_array<uint32_t>();  // the ring's first bytes: its last readers are behind the barrier
    sync_threads();
    if (thread_id() == 0) {
      last = atomic_add_ordered(p.arrivals + tile, 1) + 1 == static_cast<uint32_t>(p.splits);
      if (last) p.arrivals[tile] = 0;
    }
    sync_threads();
    if (!last) return;
    HIMAP_UNROLL
    for (int32_t m = 0; m < Tile::kM; ++m) {
      HIMAP_UNROLL
      for (int32_t n = 0; n < Tile::kN; ++n) {
        float(&s)[4] = sums[m][n];
        for (int32_t of = 0; of < p.splits; ++of) {
          const Vec16 part = *partial(of, m * Tile::kN + n);
          HIMAP_UNROLL
          for (int32_t i = 0; i < 4; ++i) s[i] = of == 0 ? bits_float(part.word[i]) : s[i] + bits_float(part.word[i]);
        }
      }
    }
  }
  linear_finish<Tile>(sums, p, out_tile, row_tile);
}

constexpr int32_t kRepackThreads = 256;

/** One thread per eight columns of a part's row. */
HIMAP_KERNEL(kRepackThreads, 1) repack_kernel(HIMAP_PARAMS(RepackParams) p) {
  const int64_t chunks = (p.image.in + 7) / 8;
  const int64_t index = int64_t{block_x()} * kRepackThreads + thread_id();
  if (index < p.rows * chunks) repack_chunk(p, index / chunks, index % chunks * 8);
}

}  // namespace himap::device
