// The entry points of cuBLASLt that the bench opens, as plain loops on the host: so that the rival's lines run without a
// card. It refuses what the bench must not ask for, and of the kernels that it lists one cannot be
// used and two give the same.
#include <new>

#include "bench/cuda/cublaslt_abi.h"
#include "kernels/float16.h"

using namespace himap;
using namespace himap::bench::cublaslt;

namespace {

constexpr Status kInvalid = 7;
constexpr uint64_t kKernel = 0x6b65726e656c;

struct TwinLayout {
  int type;
  uint64_t rows, columns;
  int64_t leading;
};
struct TwinDesc {
  int compute, scale;
  int32_t trans_a = 0;
};
struct TwinPreference {
  size_t workspace = 0;
};

float element(const void* from, int64_t index) { return to_float(static_cast<const Bf16*>(from)[index]); }

bool fits(const TwinDesc& desc, const TwinLayout& a, const TwinLayout& b, const TwinLayout& d) {
  return desc.trans_a == kTransposed && desc.compute == kComputeFloat32 && desc.scale == kFloat32 && a.type == kBfloat16 &&
         b.type == kBfloat16 && (d.type == kBfloat16 || d.type == kFloat32) && a.rows == b.rows && a.columns == d.rows &&
         b.columns == d.columns && a.leading >= static_cast<int64_t>(a.rows) && d.leading >= static_cast<int64_t>(d.rows);
}

template <class T, class... Arguments>
Status made(void** to, Arguments... arguments) {
  *to = new (std::nothrow) T{arguments...};
  return *to ? kSuccess : kInvalid;
}

template <class T>
Status gone(void* what) {
  delete static_cast<T*>(what);
  return kSuccess;
}

}  // namespace

#define TWIN extern "C" __attribute__((visibility("default")))

TWIN Status cublasLtCreate(Handle* handle) { return made<int>(handle, 0); }
TWIN Status cublasLtDestroy(void* handle) { return gone<int>(handle); }
TWIN size_t cublasLtGetVersion() { return 0; }
TWIN Status cublasLtMatmulDescCreate(MatmulDesc* desc, int compute, int scale) { return made<TwinDesc>(desc, compute, scale); }
TWIN Status cublasLtMatmulDescDestroy(void* desc) { return gone<TwinDesc>(desc); }
TWIN Status cublasLtMatmulDescSetAttribute(void* desc, int attribute, const void* value, size_t bytes) {
  if (attribute != kDescTransA || bytes != sizeof(int32_t)) return kInvalid;
  static_cast<TwinDesc*>(desc)->trans_a = *static_cast<const int32_t*>(value);
  return kSuccess;
}
TWIN Status cublasLtMatrixLayoutCreate(Layout* layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  return made<TwinLayout>(layout, type, rows, columns, leading);
}
TWIN Status cublasLtMatrixLayoutDestroy(void* layout) { return gone<TwinLayout>(layout); }
TWIN Status cublasLtMatmulPreferenceCreate(Preference* preference) { return made<TwinPreference>(preference); }
TWIN Status cublasLtMatmulPreferenceDestroy(void* preference) { return gone<TwinPreference>(preference); }
TWIN Status cublasLtMatmulPreferenceSetAttribute(void* preference, int attribute, const void* value, size_t bytes) {
  if (attribute != kPrefWorkspace || bytes != sizeof(size_t)) return kInvalid;
  static_cast<TwinPreference*>(preference)->workspace = *static_cast<const size_t*>(value);
  return kSuccess;
}

TWIN Status cublasLtMatmulAlgoGetHeuristic(Handle, MatmulDesc desc, Layout a, Layout b, Layout, Layout d, Preference, int most,
                                           Heuristic* list, int* found) {
  if (!fits(*static_cast<TwinDesc*>(desc), *static_cast<TwinLayout*>(a), *static_cast<TwinLayout*>(b),
            *static_cast<TwinLayout*>(d))) {
    return kInvalid;
  }
  for (*found = 0; *found < most && *found < 3; ++*found) {
    list[*found] = Heuristic{{{kKernel}}, 0, *found == 1 ? kInvalid : kSuccess, 1, {}};
  }
  return kSuccess;
}

TWIN Status cublasLtMatmul(Handle, MatmulDesc desc, const void* alpha, const void* a, Layout a_layout, const void* b,
                           Layout b_layout, const void* beta, const void*, Layout, void* d, Layout d_layout,
                           const Algorithm* kernel, void*, size_t, Stream) {
  const auto &weight = *static_cast<TwinLayout*>(a_layout), &x = *static_cast<TwinLayout*>(b_layout),
             &y = *static_cast<TwinLayout*>(d_layout);
  const bool plain = *static_cast<const float*>(alpha) == 1 && *static_cast<const float*>(beta) == 0;
  if (!fits(*static_cast<TwinDesc*>(desc), weight, x, y) || !plain || kernel->data[0] != kKernel) return kInvalid;
  for (int64_t column = 0; column < static_cast<int64_t>(y.columns); ++column) {
    for (int64_t row = 0; row < static_cast<int64_t>(y.rows); ++row) {
      float sum = 0;
      for (int64_t k = 0; k < static_cast<int64_t>(weight.rows); ++k) {
        sum += element(a, row * weight.leading + k) * element(b, column * x.leading + k);
      }
      const int64_t at = column * y.leading + row;
      if (y.type == kFloat32) static_cast<float*>(d)[at] = sum;
      else static_cast<Bf16*>(d)[at] = round_to<Bf16>(sum);
    }
  }
  return kSuccess;
}
