// y = epilogue(x W^T + bias) + residual. W is a weight made by weight_import, always the streamed operand.
#pragma once

#include "kernels/types.h"

namespace himap {

enum class Epilogue : int32_t {
  kNone = 0,
  kQuickGelu = 1,  // t * sigmoid(1.702 t)
  kGelu = 2,       // 0.5 t (1 + erf(t / sqrt 2))
  kSwiGlu = 3,     // silu(gate) * up; the weight was imported as kGateUp and y has half its columns
};

struct LinearParams {
  const void* x;               // (rows, in) activations
  const Weight* weight;        // (out, in)
  const float* maybe_bias;     // (out)
  const void* maybe_residual;  // (rows, out) activations, added last; may be y itself
  void* y;                     // (rows, out) activations; kSwiGlu: (rows, out / 2)
  int64_t rows;
  Phase phase;
  Epilogue epilogue;
};

/** Logits in float32: y = x W^T, always by the decode family, so that one row and many agree. */
struct LogitsParams {
  const void* x;         // (rows, in) activations
  const Weight* weight;  // (vocabulary, in)
  float* y;              // (rows, vocabulary)
  int64_t rows;
};

}  // namespace himap
