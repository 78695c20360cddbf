// The only header that kernels include: what a kernel may use of a card, by two back ends.
//
//   nvcc  kernels/device_cuda.h       each wrapper is an intrinsic or one instruction
//   g++   kernels/simt/device_host.h  each wrapper is its host twin; CUDA threads are fibers (kernels/simt/)
//
// Both give the same names in namespace himap::device, where kernels live too:
//
//   HIMAP_KERNEL(threads, blocks)  before a kernel's name: `template <class T> HIMAP_KERNEL(128, 4) f_kernel(...)`; at
//                                  most `threads` per block, at least `blocks` blocks on a multiprocessor
//   HIMAP_PARAMS(Struct) p         the kernel's one parameter, by value
//   HIMAP_DEVICE                   before a function that kernels call
//   HIMAP_UNROLL                   before a loop whose bounds are constants
//   HIMAP_ROLLED                   before a loop that shall not be unrolled
//   shared_struct<S>()             the block's shared memory as one S (launched with sizeof(S) bytes); uninitialised
//   shared_array<T>()              the same as an array whose length the launch chose
//   launch(kernel, shape, params)  kNoError, or what error_text() explains
//   Stream, DeviceError            a queue of launches; a result
//
//   thread_id() lane_id() warp_id() block_threads() block_x() block_y() block_z() grid_x() grid_y() grid_z()
//   sync_threads()                 every thread of the block that has not returned, at one line
//   sync_warp() shuffle() shuffle_xor() shuffle_up() shuffle_down() ballot()
//   warp_sum() warp_max()          by exchange at distances 16, 8, 4, 2, 1: the same order for every lane
//   mma_m16n8k16<T>(d, a, b)       d (16 x 8, float) += a (16 x 16) b (16 x 8), T = Bf16 or F16, in the card's fragments
//   load_matrix_x4(r, row)         four 8 x 8 tiles of 16-bit values from shared memory, lane 8 i + j giving row j of
//                                  tile i; load_matrix_x4_trans delivers each tile transposed
//   copy_async_16(to, from, bytes) 16 bytes from global to shared memory, the last 16 - bytes of them zero
//   copy_async_commit() copy_async_wait<N>()  close a group; wait until at most N groups of this thread are pending
//   load_stream_16(from)           16 bytes of global memory that are read once and never written by the kernel
//   prefetch(from)                 the 32 bytes of global memory around an address that may be read, towards L2
//   exp2_approx() rsqrt_approx() log2_approx()
//   atomic_add(to, v)              on int32_t and uint32_t, unordered; returns the value before
//   atomic_add_ordered(to, v)      the same, and orders this block's writes before it (after a barrier) and its reads
//                                  after it: for "the last block merges"
//   popcount(bits)
//
// For kernels of compute capability 9.0, which hold all this under `if constexpr (kSm90Compiled)` and trap() elsewhere:
//
//   mbarrier_init(b, n)            phases of `n` arrivals; then mbarrier_init_fence() and sync_threads()
//   mbarrier_arrive(b)  mbarrier_arrive_expect(b, bytes)  one arrival, the second after announcing bytes of copies
//   mbarrier_wait(b, parity)       until the phase of that parity is over; the one before the first has parity 1
//   copy_bulk(to, from, bytes, b)  to shared memory, asynchronously; its bytes arrive at b. Multiples of 16
//   copy_tile(to, map, column, row, b)  64 columns of a TileMap's rows, 128 bytes each in the 128-byte swizzle (chunk c of
//                                  row r at c ^ (r & 7)), zeros beyond the matrix; `to` is a multiple of 1024
//   swizzled_matrix(rows)          the descriptor of such rows; + 2 for each further sixteen columns
//   wgmma_begin(d)  wgmma_m64k16<T>(d, a, b)  wgmma_commit()  wgmma_wait<N>(d)  a warpgroup's d (64 x 8 n, float) += a b^T,
//                                  asynchronously: begin before the first of a group, then at most N groups are pending.
//                                  d[n][i] of lane t: row t / 32 * 16 + t % 32 / 4 + 8 (i / 2), column 8 n + t % 4 * 2 + i % 2
//   sync_warpgroup<W>()            the 128 threads from 128 W; on every card
//   has_sm90() multiprocessors() make_tile_map(map, source, rows)  for launchers
//
// Rules. Warp collectives (sync_warp to load_matrix) are executed by all 32 lanes of a warp at one line; blocks have
// whole warps and one dimension. Nothing relies on lanes running together otherwise. No block waits for another.
// Reductions of floats have a fixed order; atomics are for integers. math.h functions (log2f, erff, fmaf ...) are
// there as they are. No assembly, intrinsic or CUDA header outside the two back ends.
#pragma once

#include "kernels/device_types.h"
#include "kernels/float16.h"

#ifdef __CUDACC__
#include "kernels/device_cuda.h"
#else
#include "kernels/simt/device_host.h"
#endif

namespace himap::device {

HIMAP_DEVICE int32_t lane_id() { return thread_id() & 31; }
HIMAP_DEVICE int32_t warp_id() { return thread_id() >> 5; }

HIMAP_DEVICE float warp_sum(float value, Place place = Place::here()) {
  HIMAP_UNROLL
  for (int32_t distance = 16; distance > 0; distance >>= 1) value += shuffle_xor(value, distance, place);
  return value;
}

HIMAP_DEVICE float warp_max(float value, Place place = Place::here()) {
  HIMAP_UNROLL
  for (int32_t distance = 16; distance > 0; distance >>= 1) value = fmaxf(value, shuffle_xor(value, distance, place));
  return value;
}

}  // namespace himap::device
