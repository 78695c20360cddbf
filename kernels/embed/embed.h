// One row of the residual stream per prompt row: a token's embedding, or a projected image token.
#pragma once

#include "kernels/types.h"

namespace himap {

struct EmbedParams {
  const int32_t* source;       // (rows) token id; or -1 - r for row r of `maybe_features`
  const Weight* table;         // (vocabulary, width)
  const void* maybe_features;  // (feature rows, width) activations
  void* y;                     // (rows, width) activations
  int64_t rows;
};

}  // namespace himap
