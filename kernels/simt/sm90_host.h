// The host's half of the wrappers that need Hopper.
#pragma once

#include "kernels/device_types.h"
#include "kernels/simt/async.h"

namespace himap::device {

constexpr bool kSm90Compiled = true;

inline int32_t multiprocessors() { return simt::kMultiprocessors; }
inline bool has_sm90() { return true; }

struct TileMap {
  TileSource source;
  int32_t box_rows;
};

inline DeviceError make_tile_map(TileMap& map, const TileSource& source, int32_t box_rows) {
  if (reinterpret_cast<uintptr_t>(source.base) % 16 != 0) return refused("a tile map's base must be a multiple of 16");
  if (source.row_stride % 8 != 0) return refused("a tile map's row stride must be a multiple of 16 bytes");
  if (box_rows < 1 || box_rows > 256) return refused("a tile map's box must have 1 to 256 rows");
  if (source.rows < 1 || source.columns < 1) return refused("a tile map must have rows and columns");
  map = {source, box_rows};
  return kNoError;
}

HIMAP_DEVICE void mbarrier_init(Mbarrier& barrier, int32_t arrivals, Place place = Place::here()) {
  simt::mbarrier_init(barrier, arrivals, place);
}
HIMAP_DEVICE void mbarrier_init_fence() {}
HIMAP_DEVICE void mbarrier_arrive(Mbarrier& barrier, Place place = Place::here()) { simt::mbarrier_arrive(barrier, 0, place); }
HIMAP_DEVICE void mbarrier_arrive_expect(Mbarrier& barrier, uint32_t bytes, Place place = Place::here()) {
  simt::mbarrier_arrive(barrier, bytes, place);
}
HIMAP_DEVICE void mbarrier_wait(Mbarrier& barrier, uint32_t parity, Place place = Place::here()) {
  simt::mbarrier_wait(barrier, parity, place);
}

// What a transfer reads is taken along by value: a launch's parameters end with the thread that was given them.
HIMAP_DEVICE void copy_bulk(void* to, const void* from, uint32_t bytes, Mbarrier& barrier, Place place = Place::here()) {
  simt::transfer({.to = static_cast<unsigned char*>(to),
                  .maybe_from = from,
                  .bytes = bytes,
                  .tile = {},
                  .box_rows = 0,
                  .column = 0,
                  .row = 0,
                  .barrier = &barrier,
                  .place = place});
}
HIMAP_DEVICE void copy_tile(void* to, const TileMap& map, int32_t column, int32_t row, Mbarrier& barrier,
                            Place place = Place::here()) {
  simt::transfer({.to = static_cast<unsigned char*>(to),
                  .maybe_from = nullptr,
                  .bytes = static_cast<uint32_t>(map.box_rows) * kTileMapColumns * 2,
                  .tile = map.source,
                  .box_rows = map.box_rows,
                  .column = column,
                  .row = row,
                  .barrier = &barrier,
                  .place = place});
}

template <int32_t kWarpgroup>
HIMAP_DEVICE void sync_warpgroup(Place place = Place::here()) {
  simt::sync_warpgroup(kWarpgroup, place);
}

HIMAP_DEVICE uint64_t swizzled_matrix(const void* rows, Place place = Place::here()) { return simt::swizzled_matrix(rows, place); }

template <int32_t kN>
HIMAP_DEVICE void wgmma_begin(float (&)[kN][4]) {}
HIMAP_DEVICE void wgmma_commit(Place place = Place::here()) { simt::wgmma_commit(place); }
template <int32_t kPending, int32_t kN>
HIMAP_DEVICE void wgmma_wait(float (&)[kN][4], Place place = Place::here()) {
  simt::wgmma_wait(kPending, place);
}
template <class T, int32_t kN>
HIMAP_DEVICE void wgmma_m64k16(float (&d)[kN][4], uint64_t a, uint64_t b, Place place = Place::here()) {
  simt::wgmma({d, kN, kDTypeOf<T>, a, b}, place);
}

HIMAP_DEVICE void trap() { simt::fail("a kernel ran on a card that it was not compiled for", Place::here()); }

}  // namespace himap::device
