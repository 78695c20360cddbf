// Hopper's asynchronous machinery as the wrappers (sm90_host.h) see it: mbarriers, copies that complete on them, and
// products of whole warpgroups.
#pragma once

#include "kernels/device_types.h"
#include "kernels/simt/thread.h"
#include "kernels/types.h"

namespace himap::simt {

void mbarrier_init(device::Mbarrier& barrier, int32_t arrivals, device::Place place);
/** Arrives once, after announcing `bytes` more for the same phase. */
void mbarrier_arrive(device::Mbarrier& barrier, uint32_t bytes, device::Place place);
/** Waits until the phase of that parity has ended. */
void mbarrier_wait(device::Mbarrier& barrier, uint32_t parity, device::Place place);

/** `bytes` from `from`, or the box of `tile` whose first element is (row, column), to shared memory. */
struct Transfer {
  unsigned char* to;
  const void* maybe_from;  // null: a tile
  uint32_t bytes;
  device::TileSource tile;
  int32_t box_rows;
  int32_t column;
  int32_t row;
  device::Mbarrier* barrier;
  device::Place place;
};

/** Starts a transfer: it happens at once, or when no thread of the block can run without it. */
void transfer(const Transfer& transfer);

/** One lane's part in a product of a warpgroup: d (64 x 8 n) += a (64 x 16) b (16 x 8 n). */
struct Wgmma {
  float (*d)[4];  // (n)
  int32_t n;
  DType type;
  uint64_t a;
  uint64_t b;
};

void wgmma(const Wgmma& lane, device::Place place);
void wgmma_commit(device::Place place);
void wgmma_wait(int32_t pending, device::Place place);

void sync_warpgroup(int32_t warpgroup, device::Place place);

/** The matrix descriptor of rows of 128 swizzled bytes, as a card encodes it, of an address within the block's memory. */
uint64_t swizzled_matrix(const void* rows, device::Place place);

/** The machine's number of multiprocessors, as launchers ask for it. */
constexpr int32_t kMultiprocessors = 4;

}  // namespace himap::simt
