// out[r] = in[index[r]]: one block per row, all arrays one after another, in the widest unit that an array allows.
// Moves: each chosen row once, and the index.
#pragma once

#include "kernels/device.h"
#include "kernels/gather/gather.h"

namespace himap::device {

constexpr int32_t kGatherThreads = 128;

template <class Unit>
HIMAP_DEVICE bool gather_row(const unsigned char* from, unsigned char* to, int64_t bytes) {
  constexpr int64_t kBytes = sizeof(Unit);
  if (bytes % kBytes != 0 || (reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to)) % kBytes != 0) return false;
  for (int64_t i = thread_id(); i < bytes / kBytes; i += kGatherThreads) {
    reinterpret_cast<Unit*>(to)[i] = reinterpret_cast<const Unit*>(from)[i];
  }
  return true;
}

HIMAP_KERNEL(kGatherThreads, 1) gather_kernel(HIMAP_PARAMS(GatherParams) p) {
  const int64_t row = block_x(), from_row = p.index[row];
  HIMAP_UNROLL
  for (int32_t a = 0; a < kMaxGathered; ++a) {
    if (a >= p.n) break;
    const auto& array = p.arrays[a];
    const unsigned char* from = static_cast<const unsigned char*>(array.in) + from_row * array.row_bytes;
    unsigned char* to = static_cast<unsigned char*>(array.out) + row * array.row_bytes;
    if (gather_row<Vec16>(from, to, array.row_bytes) || gather_row<uint32_t>(from, to, array.row_bytes)) continue;
    gather_row<unsigned char>(from, to, array.row_bytes);
  }
}

}  // namespace himap::device
