// The launches of one activation type's tiles. A source file for each type, as nvcc takes most of a minute for one.
#pragma once

#include <utility>

#include "kernels/dispatch.h"
#include "kernels/linear/launch_linear.h"
#include "kernels/linear/sm90_linear.cuh"
#include "kernels/linear/sm90_linear_tiles.h"

namespace himap {

template <class Tile>
device::DeviceError launch_sm90_linear_tile(const LinearLaunch& l, device::Stream stream) {
  const WeightImage& weight = *l.weight;
  device::Sm90LinearParams params{.x = {},
                                  .image = static_cast<const unsigned char*>(weight.data),
                                  .out = linear_output_of(l),
                                  .partials = l.workspace.partials,
                                  .arrivals = l.workspace.arrivals,
                                  .in_tiles = static_cast<int32_t>(weight.in_tiles()),
                                  .out_tiles = static_cast<int32_t>(weight.out_tiles() * (kImageRows / Tile::kTileOut)),
                                  .row_tiles = static_cast<int32_t>(ceil_div(l.rows, Tile::kTileRows)),
                                  .splits = static_cast<int32_t>(linear_splits(l))};
  const device::DeviceError error = device::make_tile_map(
      params.x,
      {.base = l.x, .is_f16 = weight.type == DType::kF16, .columns = weight.in, .rows = l.rows, .row_stride = l.x_stride},
      Tile::kTileRows);
  if (error != device::kNoError) return error;
  const int64_t pieces = int64_t{params.out_tiles} * params.row_tiles * params.splits;
  const int64_t resident = int64_t{device::multiprocessors()} * Tile::kBlocks;
  return device::launch(device::sm90_linear_kernel<Tile>,
                        {.name = "sm90_linear",
                         .grid = {static_cast<uint32_t>(pieces < resident ? pieces : resident)},
                         .threads = Tile::kThreads,
                         .shared_bytes = sizeof(typename Tile::Shared),
                         .stream = stream},
                        params);
}

template <class T, int32_t... kIndex>
device::DeviceError launch_sm90_linear_one(const LinearLaunch& l, int32_t tile, device::Stream stream,
                                           std::integer_sequence<int32_t, kIndex...>) {
  using Launch = device::DeviceError (*)(const LinearLaunch&, device::Stream);
  constexpr Launch kLaunches[] = {
      launch_sm90_linear_tile<device::Sm90LinearTile<T, kSm90LinearTiles[kIndex].warpgroups, kSm90LinearTiles[kIndex].rows,
                                                     kSm90LinearTiles[kIndex].blocks>>...};
  return kLaunches[tile](l, stream);
}

template <class T>
device::DeviceError launch_sm90_linear_typed(const LinearLaunch& l, int32_t tile, device::Stream stream) {
  return launch_sm90_linear_one<T>(l, tile, stream, std::make_integer_sequence<int32_t, kSm90LinearTileCount>());
}

}  // namespace himap
