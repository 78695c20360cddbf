// The matrix product of both phases on Hopper, with TMA, mbarriers and wgmma: y^T (columns x rows) = W x^T.
//
// A block has one warp that fetches and one or two warpgroups that multiply. Each warpgroup owns 64 rows of the weight's
// image (wgmma's M) and the block's kTileRows rows of x (its N), and walks `in` in steps of 64. A step's weights are one
// bulk copy of the image, whose tiles lie in memory as wgmma wants them; its rows of x are one TMA tile, swizzled on the
// way, with zeros beyond the last row and column. Both land in a ring of slots, each with two mbarriers: `full` counts the
// fetcher's arrival and the bytes that it announced, `empty` one arrival of every multiplying warp. A slot is given back
// when the product after the one that read it has been issued and the older is over, so that the tensor cores never idle.
//
// Grid: persistent. Block b takes pieces b, b + grid ...; a piece is (split of `in`, out tile, row tile). Pieces come in
// groups of row tiles (kGroupRows rows) that share each weight tile while it is in L2.
// Moves: the image once per row tile and x once per out tile, both mostly from L2; y once.
// Bits: as in linear.cuh, an output is one chain of products in ascending `in`, in one accumulator, whatever the tile; a
// decode layer's chains are cut in splits by the weight's shape and added in ascending order.
#pragma once

#include "kernels/device.h"
#include "kernels/linear/linear_output.cuh"
#include "kernels/linear/sm90_linear_tiles.h"

namespace himap::device {

struct Sm90LinearParams {
  TileMap x;            // (rows, in) T, boxes of kTileRows rows
  const unsigned char* image;
  LinearOutput out;
  float* partials;      // with splits > 1: (splits, row tiles, out tiles, kN, 128 threads) of 4 floats
  uint32_t* arrivals;   // (row tiles, out tiles)
  int32_t in_tiles;
  int32_t out_tiles;    // of kTileOut
  int32_t row_tiles;    // of kTileRows
  int32_t splits;
};

/** Shapes of a block: `kBlocks_` of them share a multiprocessor, and the ring takes what shared memory that leaves. */
template <class T_, int32_t kWarpgroups_, int32_t kTileRows_, int32_t kBlocks_>
struct Sm90LinearTile {
  using T = T_;
  static constexpr int32_t kWarpgroups = kWarpgroups_;
  static constexpr int32_t kTileOut = kWarpgroups * 64;
  static constexpr int32_t kTileRows = kTileRows_;
  static constexpr int32_t kBlocks = kBlocks_;
  static constexpr int32_t kN = kTileRows / 8;
  static constexpr bool kMerges = sm90_linear_merges({kWarpgroups, kTileRows, kBlocks});
  static constexpr int32_t kThreads = kWarpgroups * 128 + 32;
  static constexpr int32_t kWeightBytes = kTileOut * kImageRowBytes;
  static constexpr int32_t kSlotBytes = kWeightBytes + kTileRows * kImageRowBytes;
  // A multiprocessor has 228 KiB, of which each block costs 1 KiB; the barriers take less than another.
  static constexpr int32_t kRoom = ((228 << 10) / kBlocks - 2048) / kSlotBytes;
  static constexpr int32_t kStages = kRoom < 8 ? kRoom : 8;
  static_assert(kImageRows % kTileOut == 0, "a block's weights lie in one tile of the image");
  static_assert(kStages >= 3, "one slot is read, one waits to be given back, one is filled");

  struct Shared {
    alignas(1024) unsigned char w[kStages][kWeightBytes];
    alignas(1024) unsigned char x[kStages][kTileRows * kImageRowBytes];
    Mbarrier full[kStages];
    Mbarrier empty[kStages];
    uint32_t last;  // with kMerges: whether this block came last
  };
};

/** A slot of the ring and the parity of its current phase, as either side counts them. */
template <int32_t kStages>
struct RingPlace {
  int32_t slot = 0;
  uint32_t parity = 0;

  HIMAP_DEVICE void advance() {
    if (++slot == kStages) {
      slot = 0;
      parity ^= 1;
    }
  }
};

struct Sm90LinearPiece {
  int32_t split;
  int32_t out_tile;
  int32_t row_tile;
  int32_t begin;  // tiles of `in`
  int32_t end;
};

template <class Tile>
HIMAP_DEVICE Sm90LinearPiece sm90_linear_piece(const Sm90LinearParams& p, int32_t index) {
  constexpr int32_t kGroupRows = 2048;
  constexpr int32_t kGroup = kGroupRows / Tile::kTileRows;
  const int32_t tiles = p.out_tiles * p.row_tiles, split = index / tiles, tile = index % tiles;
  const int32_t group = tile / (kGroup * p.out_tiles), place = tile % (kGroup * p.out_tiles);
  const int32_t first = group * kGroup, left = p.row_tiles - first;
  const int32_t height = left < kGroup ? left : kGroup;
  return {split, place / height, first + place % height, split * p.in_tiles / p.splits, (split + 1) * p.in_tiles / p.splits};
}

/** What the fetching thread does. */
template <class Tile>
HIMAP_DEVICE void sm90_linear_fetch(typename Tile::Shared& shared, const Sm90LinearParams& p, int32_t pieces) {
  RingPlace<Tile::kStages> place;
  constexpr int32_t kParts = kImageRows / Tile::kTileOut;
  for (int32_t index = block_x(); index < pieces; index += grid_x()) {
    const Sm90LinearPiece piece = sm90_linear_piece<Tile>(p, index);
    const unsigned char* image =
        p.image + int64_t{piece.out_tile / kParts} * p.in_tiles * kImageTileBytes + piece.out_tile % kParts * Tile::kWeightBytes;
    for (int32_t k = piece.begin; k < piece.end; ++k) {
      mbarrier_wait(shared.empty[place.slot], place.parity ^ 1);  // the first round finds every slot empty
      mbarrier_arrive_expect(shared.full[place.slot], Tile::kSlotBytes);
      copy_bulk(shared.w[place.slot], image + int64_t{k} * kImageTileBytes, Tile::kWeightBytes, shared.full[place.slot]);
      copy_tile(shared.x[place.slot], p.x, k * kImageColumns, piece.row_tile * Tile::kTileRows, shared.full[place.slot]);
      place.advance();
    }
  }
}

/** One warpgroup's sums of a piece. Each of its warps gives every slot back once. */
template <class Tile>
HIMAP_DEVICE void sm90_linear_multiply(float (&sums)[Tile::kN][4], typename Tile::Shared& shared, RingPlace<Tile::kStages>& place,
                                       int32_t steps, int32_t warpgroup) {
  const auto give_back = [&](int32_t slot) {
    if (lane_id() == 0) mbarrier_arrive(shared.empty[slot]);
  };
  int32_t before = 0;
  HIMAP_UNROLL
  for (int32_t n = 0; n < Tile::kN; ++n) {
    HIMAP_UNROLL
    for (int32_t i = 0; i < 4; ++i) sums[n][i] = 0;
  }
  for (int32_t step = 0; step < steps; ++step) {
    mbarrier_wait(shared.full[place.slot], place.parity);
    const uint64_t w = swizzled_matrix(shared.w[place.slot] + warpgroup * 64 * kImageRowBytes);
    const uint64_t x = swizzled_matrix(shared.x[place.slot]);
    wgmma_begin(sums);
    HIMAP_UNROLL
    for (int32_t k = 0; k < 4; ++k) {  // sixteen columns are 32 bytes, two units of a descriptor
      wgmma_m64k16<typename Tile::T>(sums, w + 2 * k, x + 2 * k);
    }
    wgmma_commit();
    wgmma_wait<1>(sums);
    if (step > 0) give_back(before);
    before = place.slot;
    place.advance();
  }
  wgmma_wait<0>(sums);
  give_back(before);
}

/**
 * Leaves the sums of a split, and for the block that comes last adds all of them, its own too, in ascending order. False:
 * another will.
 */
template <class Tile>
HIMAP_DEVICE bool sm90_linear_merge(float (&sums)[Tile::kN][4], typename Tile::Shared& shared, const Sm90LinearParams& p,
                                    const Sm90LinearPiece& piece) {
  static_assert(Tile::kWarpgroups == 1, "one warpgroup merges");
  const int32_t thread = thread_id();
  const int64_t tile = int64_t{piece.row_tile} * p.out_tiles + piece.out_tile, tiles = int64_t{p.row_tiles} * p.out_tiles;
  const auto partial = [&](int32_t split, int32_t n) {
    return reinterpret_cast<Vec16*>(p.partials) + ((split * tiles + tile) * Tile::kN + n) * 128 + thread;
  };
  HIMAP_UNROLL
  for (int32_t n = 0; n < Tile::kN; ++n) {
    const float(&s)[4] = sums[n];
    *partial(piece.split, n) = {{float_bits(s[0]), float_bits(s[1]), float_bits(s[2]), float_bits(s[3])}};
  }
  sync_warpgroup<0>();
  if (thread == 0) {
    const uint32_t last = atomic_add_ordered(p.arrivals + tile, 1) + 1 == static_cast<uint32_t>(p.splits);
    if (last) p.arrivals[tile] = 0;
    shared.last = last;
  }
  sync_warpgroup<0>();
  if (!shared.last) return false;
  HIMAP_UNROLL
  for (int32_t n = 0; n < Tile::kN; ++n) {
    for (int32_t split = 0; split < p.splits; ++split) {
      const Vec16 part = *partial(split, n);
      HIMAP_UNROLL
      for (int32_t i = 0; i < 4; ++i) sums[n][i] = split == 0 ? bits_float(part.word[i]) : sums[n][i] + bits_float(part.word[i]);
    }
  }
  return true;
}

template <class Tile>
HIMAP_KERNEL(Tile::kThreads, Tile::kBlocks) sm90_linear_kernel(HIMAP_PARAMS(Sm90LinearParams) p) {
  if constexpr (kSm90Compiled) {
    auto& shared = shared_struct<typename Tile::Shared>();
    if (thread_id() == 0) {
      for (int32_t slot = 0; slot < Tile::kStages; ++slot) {
        mbarrier_init(shared.full[slot], 1);
        mbarrier_init(shared.empty[slot], Tile::kWarpgroups * 4);
      }
      mbarrier_init_fence();
    }
    sync_threads();
    const int32_t pieces = p.out_tiles * p.row_tiles * p.splits, warpgroup = thread_id() / 128;
    if (warpgroup == Tile::kWarpgroups) {
      if (thread_id() % 32 == 0) sm90_linear_fetch<Tile>(shared, p, pieces);
      return;
    }
    RingPlace<Tile::kStages> place;
    for (int32_t index = block_x(); index < pieces; index += grid_x()) {
      const Sm90LinearPiece piece = sm90_linear_piece<Tile>(p, index);
      sync_warp();  // wgmma is for whole warps, and lanes may come from the last piece's output one by one
      float sums[Tile::kN][4];
      sm90_linear_multiply<Tile>(sums, shared, place, piece.end - piece.begin, warpgroup);
      if constexpr (Tile::kMerges) {
        if (p.splits > 1 && !sm90_linear_merge<Tile>(sums, shared, p, piece)) continue;
      }
      const int32_t group = piece.out_tile * (Tile::kTileOut / 16) + thread_id() / 32;
      linear_output<typename Tile::T>(sums, p.out, group, piece.row_tile * Tile::kTileRows);
    }
  } else {
    trap();
  }
}

}  // namespace himap::device
