// The warp operations, each run once for all 32 lanes by the last lane to arrive.
#pragma once

#include <cstdint>

#include "kernels/device_types.h"
#include "kernels/float16.h"
#include "kernels/simt/thread.h"

namespace himap::simt {

struct Shuffle {
  uint32_t value;
  uint32_t result;
  int32_t argument;  // a lane or a distance
};

struct Mma {
  float (&d)[4];
  const uint32_t (&a)[4];
  const uint32_t (&b)[2];
};

struct LoadMatrix {
  device::Vec16 row;
  uint32_t (&r)[4];
};

void warp_nothing(void* const* lanes);
void warp_shuffle(void* const* lanes);
void warp_shuffle_xor(void* const* lanes);
void warp_shuffle_up(void* const* lanes);
void warp_shuffle_down(void* const* lanes);
void warp_ballot(void* const* lanes);
template <class T>
void warp_mma_m16n8k16(void* const* lanes);
void warp_load_matrix_x4(void* const* lanes);
void warp_load_matrix_x4_trans(void* const* lanes);

/** Fails unless the bytes are aligned to their number and lie in the block's shared memory. */
void check_shared(const void* address, int32_t bytes, device::Place place);

}  // namespace himap::simt
