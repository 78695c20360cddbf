// The card's half of the wrappers that need Hopper: mbarriers, bulk copies, tiles, wgmma. Included by device_cuda.h.
//
// Their instructions exist in sm_90a code only. Kernels that use them hold them under `if constexpr (kSm90Compiled)`,
// and are empty elsewhere; launchers ask has_sm90() before.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include "kernels/device_types.h"
#include "kernels/float16.h"

namespace himap::device {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool kSm90Compiled = true;
#else
constexpr bool kSm90Compiled = false;
#endif

using TileMap = CUtensorMap;

/** A number of the card that this thread uses; 0 where it cannot be had. */
inline int32_t device_number(cudaDeviceAttr attribute) {
  int card = 0, value = 0;
  if (cudaGetDevice(&card) != cudaSuccess || cudaDeviceGetAttribute(&value, attribute, card) != cudaSuccess) return 0;
  return value;
}

inline int32_t multiprocessors() { return device_number(cudaDevAttrMultiProcessorCount); }

/** Whether the card and this build have Hopper's instructions: code for plain sm_90, or PTX for it, has none of them. */
inline bool has_sm90() {
#ifdef HIMAP_SM90A
  return device_number(cudaDevAttrComputeCapabilityMajor) == 9;
#else
  return false;
#endif
}

inline DeviceError make_tile_map(TileMap& map, const TileSource& source, int32_t box_rows) {
  using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*,
                              const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                              CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  // The driver is asked by name, so that nothing links to it. Version 12.0 is the first that has it.
  static const Encode encode = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found;
#if CUDART_VERSION >= 12050
    const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found);
#else
    const cudaError_t error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &found);
#endif
    return error == cudaSuccess && found == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(entry) : nullptr;
  }();
  if (!encode) return cudaErrorNotSupported;
  const cuuint64_t size[2] = {static_cast<cuuint64_t>(source.columns), static_cast<cuuint64_t>(source.rows)};
  const cuuint64_t stride[1] = {static_cast<cuuint64_t>(source.row_stride) * 2};
  const cuuint32_t box[2] = {kTileMapColumns, static_cast<cuuint32_t>(box_rows)}, step[2] = {1, 1};
  const CUresult result = encode(&map, source.is_f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2,
                                 const_cast<void*>(source.base), size, stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                 CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

HIMAP_DEVICE void mbarrier_init(Mbarrier& barrier, int32_t arrivals, Place = {}) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
}

HIMAP_DEVICE void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

HIMAP_DEVICE void mbarrier_arrive(Mbarrier& barrier, Place = {}) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
}

HIMAP_DEVICE void mbarrier_arrive_expect(Mbarrier& barrier, uint32_t bytes, Place = {}) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes) : "memory");
}

HIMAP_DEVICE void mbarrier_wait(Mbarrier& barrier, uint32_t parity, Place = {}) {
  asm volatile(
      "{\n"
      ".reg .pred passed;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 passed, [%0], %1;\n"
      "@!passed bra again;\n"
      "}" ::"r"(shared_address(&barrier)),
      "r"(parity)
      : "memory");
}

HIMAP_DEVICE void copy_bulk(void* to, const void* from, uint32_t bytes, Mbarrier& barrier, Place = {}) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(&barrier))
               : "memory");
}

HIMAP_DEVICE void copy_tile(void* to, const TileMap& map, int32_t column, int32_t row, Mbarrier& barrier, Place = {}) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
                   shared_address(to)),
               "l"(&map), "r"(column), "r"(row), "r"(shared_address(&barrier))
               : "memory");
}

/** Barriers 1 to 15 are free of sync_threads. A number that only the run knows would take all of them. */
template <int32_t kWarpgroup>
HIMAP_DEVICE void sync_warpgroup(Place = {}) {
  asm volatile("bar.sync %0, 128;" ::"n"(kWarpgroup + 1) : "memory");
}

/** Rows of 128 bytes in groups of eight, 1024 bytes apart; the address in units of 16 bytes. */
HIMAP_DEVICE uint64_t swizzled_matrix(const void* rows, Place = {}) {
  const uint64_t address = shared_address(rows);
  return (address & 0x3ffff) >> 4 | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}

/** Pins the sums in their registers, where an asynchronous product may be writing them. */
template <int32_t kN>
HIMAP_DEVICE void wgmma_pin(float (&sums)[kN][4]) {
  HIMAP_UNROLL
  for (int32_t n = 0; n < kN; ++n) {
    HIMAP_UNROLL
    for (int32_t i = 0; i < 4; ++i) asm volatile("" : "+f"(sums[n][i])::"memory");
  }
}

template <int32_t kN>
HIMAP_DEVICE void wgmma_begin(float (&sums)[kN][4]) {
  wgmma_pin(sums);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

HIMAP_DEVICE void wgmma_commit(Place = {}) { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

template <int32_t kPending, int32_t kN>
HIMAP_DEVICE void wgmma_wait(float (&sums)[kN][4], Place = {}) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
  wgmma_pin(sums);
}

template <class T, int32_t kN>
HIMAP_DEVICE void wgmma_m64k16(float (&d)[kN][4], uint64_t a, uint64_t b, Place = {});

HIMAP_DEVICE void trap() { __trap(); }

}  // namespace himap::device

#include "kernels/sm90_wgmma_cuda.h"
