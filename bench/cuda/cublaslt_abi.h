// The few entry points of cuBLASLt (12 and 13) that the bench calls, declared by ourselves so that nothing of it is needed to
// build. Descriptors are opaque pointers; numbers are those of its documentation.
#pragma once

#include <cstddef>
#include <cstdint>

namespace himap::bench::cublaslt {

using Status = int;  // 0: success
using Handle = void*;
using MatmulDesc = void*;
using Layout = void*;
using Preference = void*;
using Stream = void*;  // cudaStream_t

constexpr Status kSuccess = 0;
constexpr int kFloat32 = 0;         // CUDA_R_32F
constexpr int kBfloat16 = 14;       // CUDA_R_16BF
constexpr int kComputeFloat32 = 68; // CUBLAS_COMPUTE_32F
constexpr int32_t kTransposed = 1;  // CUBLAS_OP_T
constexpr int kDescTransA = 3;      // CUBLASLT_MATMUL_DESC_TRANSA
constexpr int kPrefWorkspace = 1;   // CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES

struct Algorithm {
  uint64_t data[8];
};

struct Heuristic {
  Algorithm algorithm;
  size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};

using Create = Status(Handle*);
using Destroy = Status(void*);
using GetVersion = size_t();
using MatmulDescCreate = Status(MatmulDesc*, int compute_type, int scale_type);
using LayoutCreate = Status(Layout*, int type, uint64_t rows, uint64_t columns, int64_t leading);
using PreferenceCreate = Status(Preference*);
using SetAttribute = Status(void*, int attribute, const void* value, size_t bytes);
using GetHeuristics = Status(Handle, MatmulDesc, Layout a, Layout b, Layout c, Layout d, Preference, int most, Heuristic*,
                             int* found);
using Matmul = Status(Handle, MatmulDesc, const void* alpha, const void* a, Layout, const void* b, Layout, const void* beta,
                      const void* c, Layout, void* d, Layout, const Algorithm*, void* workspace, size_t workspace_bytes, Stream);

}  // namespace himap::bench::cublaslt
