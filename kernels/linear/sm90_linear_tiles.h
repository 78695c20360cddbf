// The tiles of the Hopper product and the choice among them: host arithmetic, tested without a card.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/linear/launch_linear.h"
#include "kernels/types.h"

namespace himap {

struct Sm90LinearTileShape {
  int32_t warpgroups;  // of 64 outputs each
  int32_t rows;
  int32_t blocks;      // on a multiprocessor
};

/**
 * Narrow ones for decode: several small blocks on a multiprocessor keep more than 200 KB of weights on their way. Wide
 * ones for many rows; those between for the few hundred rows that are left after pruning, where a tile that fits the rows
 * wastes least.
 */
constexpr Sm90LinearTileShape kSm90LinearTiles[] = {
    {1, 8, 3},   {1, 16, 3},  {1, 32, 3},  {1, 64, 2},  {1, 96, 2},  {1, 128, 2}, {2, 64, 2},
    {2, 96, 2},  {2, 128, 1}, {2, 144, 1}, {2, 176, 1}, {2, 208, 1}, {2, 256, 1},
};
/** Whether a layer that is split may use the tile: merging is compiled for one warpgroup, as wider ones would spill. */
constexpr bool sm90_linear_merges(const Sm90LinearTileShape& tile) { return tile.warpgroups == 1; }

constexpr int32_t kSm90LinearTileCount = sizeof kSm90LinearTiles / sizeof kSm90LinearTiles[0];

/** What a launch of one tile is estimated to take, in nanoseconds; good for comparing tiles, no promise. */
constexpr double sm90_linear_estimate(const Sm90LinearTileShape& tile, const WeightImage& weight, int64_t rows, int64_t splits,
                                      int64_t multiprocessors) {
  constexpr double kFlops = 6000;         // per nanosecond and multiprocessor: 790e12 / 132
  constexpr double kSharedBytes = 68;     // from L2 to shared memory, likewise: what 5120 bytes a clock are at 1.755 GHz
  constexpr double kMemoryBytes = 4300;   // per nanosecond, the whole card
  constexpr double kPieceCost = 1500;     // a piece's start and its output
  const int64_t outs = tile.warpgroups * 64, in = weight.in_tiles() * kImageColumns;
  const int64_t pieces = weight.out_tiles() * (kImageRows / outs) * ((rows + tile.rows - 1) / tile.rows) * splits;
  const double walk = static_cast<double>(in) / static_cast<double>(splits);
  const auto most = static_cast<double>((pieces + multiprocessors - 1) / multiprocessors);
  const double step =
      std::max(2.0 * static_cast<double>(outs * tile.rows) / kFlops, 2.0 * static_cast<double>(outs + tile.rows) / kSharedBytes);
  const double stream = static_cast<double>(weight.bytes()) / kMemoryBytes;
  // Blocks that share a multiprocessor hide each other's starts and outputs; where memory is the bound, so does memory.
  return std::max(most * (walk * step + kPieceCost / tile.blocks), stream + kPieceCost);
}

/** The tile for a launch: its place in kSm90LinearTiles. It does not change the bits. */
inline int32_t sm90_linear_tile(const WeightImage& weight, int64_t rows, int64_t splits, int64_t multiprocessors) {
  int32_t best = 0;
  double least = 0;
  for (int32_t i = 0; i < kSm90LinearTileCount; ++i) {
    const Sm90LinearTileShape& tile = kSm90LinearTiles[i];
    if (splits > 1 && (!sm90_linear_merges(tile) || (rows + tile.rows - 1) / tile.rows * tile.rows > kDecodeSplitRows)) continue;
    const double estimate = sm90_linear_estimate(tile, weight, rows, splits, multiprocessors);
    if (i == 0 || estimate < least) {
      best = i;
      least = estimate;
    }
  }
  return best;
}

}  // namespace himap
