// The card's half of kernels/device.h: each wrapper is an intrinsic or one PTX instruction, sm_80 and up.
#pragma once

#include <cuda_runtime.h>

#include "kernels/device_types.h"
#include "kernels/float16.h"

#define HIMAP_KERNEL(threads, blocks) static __global__ void __launch_bounds__(threads, blocks)
#define HIMAP_PARAMS(type) const __grid_constant__ type
#define HIMAP_DEVICE __device__ __forceinline__
#define HIMAP_UNROLL _Pragma("unroll")
#define HIMAP_ROLLED _Pragma("unroll 1")

namespace himap::device {

using Stream = cudaStream_t;
using DeviceError = cudaError_t;
constexpr DeviceError kNoError = cudaSuccess;

inline const char* error_text(DeviceError error) { return cudaGetErrorString(error); }

struct LaunchShape {
  const char* name;
  Dim3 grid;
  int32_t threads;
  size_t shared_bytes;
  Stream stream;
};

template <class Params>
DeviceError launch(void (*kernel)(Params), const LaunchShape& shape, const Params& params) {
  constexpr size_t kSharedWithoutAsking = 48 << 10;
  if (shape.shared_bytes > kSharedWithoutAsking) {
    const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes));
    if (error != cudaSuccess) return error;
  }
  kernel<<<dim3(shape.grid.x, shape.grid.y, shape.grid.z), static_cast<unsigned>(shape.threads), shape.shared_bytes, shape.stream>>>(params);
  return cudaGetLastError();
}

/** Where a wrapper was called: of use to the host twin only. */
struct Place {
  static HIMAP_DEVICE constexpr Place here() { return {}; }
};

HIMAP_DEVICE int32_t thread_id() { return static_cast<int32_t>(threadIdx.x); }
HIMAP_DEVICE int32_t block_threads() { return static_cast<int32_t>(blockDim.x); }
HIMAP_DEVICE int32_t block_x() { return static_cast<int32_t>(blockIdx.x); }
HIMAP_DEVICE int32_t block_y() { return static_cast<int32_t>(blockIdx.y); }
HIMAP_DEVICE int32_t block_z() { return static_cast<int32_t>(blockIdx.z); }
HIMAP_DEVICE int32_t grid_x() { return static_cast<int32_t>(gridDim.x); }
HIMAP_DEVICE int32_t grid_y() { return static_cast<int32_t>(gridDim.y); }
HIMAP_DEVICE int32_t grid_z() { return static_cast<int32_t>(gridDim.z); }

extern __shared__ __align__(1024) unsigned char shared_bytes_of_block[];

template <class T>
HIMAP_DEVICE T& shared_struct() {
  return *reinterpret_cast<T*>(shared_bytes_of_block);
}

template <class T>
HIMAP_DEVICE T* shared_array() {
  return reinterpret_cast<T*>(shared_bytes_of_block);
}

HIMAP_DEVICE void sync_threads(Place = {}) { __syncthreads(); }
HIMAP_DEVICE void sync_warp(Place = {}) { __syncwarp(); }

constexpr uint32_t kAllLanes = 0xffffffffu;

template <class T>
HIMAP_DEVICE T shuffle(T value, int32_t lane, Place = {}) {
  return __shfl_sync(kAllLanes, value, lane);
}
template <class T>
HIMAP_DEVICE T shuffle_xor(T value, int32_t distance, Place = {}) {
  return __shfl_xor_sync(kAllLanes, value, distance);
}
template <class T>
HIMAP_DEVICE T shuffle_up(T value, int32_t distance, Place = {}) {
  return __shfl_up_sync(kAllLanes, value, distance);
}
template <class T>
HIMAP_DEVICE T shuffle_down(T value, int32_t distance, Place = {}) {
  return __shfl_down_sync(kAllLanes, value, distance);
}
HIMAP_DEVICE uint32_t ballot(bool value, Place = {}) { return __ballot_sync(kAllLanes, value); }

template <class T>
HIMAP_DEVICE void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Place = {});

template <>
HIMAP_DEVICE void mma_m16n8k16<Bf16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Place) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <>
HIMAP_DEVICE void mma_m16n8k16<F16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Place) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

HIMAP_DEVICE uint32_t shared_address(const void* pointer) { return static_cast<uint32_t>(__cvta_generic_to_shared(pointer)); }

HIMAP_DEVICE void load_matrix_x4(uint32_t (&r)[4], const void* row, Place = {}) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

HIMAP_DEVICE void load_matrix_x4_trans(uint32_t (&r)[4], const void* row, Place = {}) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// Past L1: what is copied to shared memory is not read again from L1.
HIMAP_DEVICE void copy_async_16(void* to, const void* from, int32_t bytes, Place = {}) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}
HIMAP_DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int32_t kPending>
HIMAP_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

HIMAP_DEVICE void prefetch(const void* from) { asm volatile("prefetch.global.L2 [%0];" ::"l"(from)); }

HIMAP_DEVICE Vec16 load_stream_16(const void* from) {
  Vec16 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]), "=r"(v.word[3])
               : "l"(from));
  return v;
}

HIMAP_DEVICE float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
HIMAP_DEVICE float log2_approx(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
HIMAP_DEVICE float rsqrt_approx(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

HIMAP_DEVICE int32_t atomic_add(int32_t* to, int32_t value) { return atomicAdd(to, value); }
HIMAP_DEVICE uint32_t atomic_add(uint32_t* to, uint32_t value) { return atomicAdd(to, value); }
HIMAP_DEVICE uint32_t atomic_add_ordered(uint32_t* to, uint32_t value) {
  uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(to), "r"(value) : "memory");
  return before;
}

HIMAP_DEVICE int32_t popcount(uint32_t bits) { return __popc(bits); }

}  // namespace himap::device

#include "kernels/sm90_cuda.h"
