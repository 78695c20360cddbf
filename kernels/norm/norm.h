// RMSNorm: y = x * rsqrt(mean(x^2) + eps) * weight. LayerNorm: y = (x - mean) * rsqrt(var + eps) * weight + bias.
// Statistics in float32, one row at a time.
#pragma once

#include "kernels/types.h"

namespace himap {

struct NormParams {
  const void* x;            // (rows, width) activations
  const float* weight;      // (width)
  const float* maybe_bias;  // (width): LayerNorm; null: RMSNorm
  void* y;                  // (rows, width) activations; may be x
  int64_t rows;
  int64_t width;
  float eps;
};

}  // namespace himap
