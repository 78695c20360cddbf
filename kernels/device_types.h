// Plain types that kernels, launchers and the host's SIMT machine share.
#pragma once

#include <cstddef>
#include <cstdint>

namespace himap::device {

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
};

/** 16 bytes that move as one. */
struct alignas(16) Vec16 {
  uint32_t word[4];
};

/**
 * A barrier in shared memory that counts arrivals and the bytes of asynchronous copies. Its phases have parities 0, 1, 0
 * ...; a phase ends when all its arrivals and all the bytes that they announced have come.
 */
struct alignas(8) Mbarrier {
  uint64_t state;
};

/** A matrix of 16-bit values in global memory, as copy_tile reads it. */
struct TileSource {
  const void* base;    // a multiple of 16
  bool is_f16;         // else bf16
  int64_t columns;     // what lies beyond is read as zeros
  int64_t rows;        // likewise
  int64_t row_stride;  // in elements, a multiple of 8
};

constexpr int32_t kTileMapColumns = 64;  // of one tile: 128 bytes, the width of the swizzle

}  // namespace himap::device
