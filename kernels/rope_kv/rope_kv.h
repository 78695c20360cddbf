// Rotates the queries and keys of the packed QKV rows in place (half-split convention: dimensions i and i + head_dim/2
// turn together by the angle of the row's position), then writes keys and values into their pages.
#pragma once

#include "kernels/kv_layout.h"

namespace himap {

struct RopeKvParams {
  void* qkv;                  // (rows, (heads + 2 kv_heads) * head_dim) activations: all q, all k, all v
  const float* cos;           // (positions, head_dim / 2)
  const float* sin;           // (positions, head_dim / 2)
  const int32_t* positions;   // (rows)
  const int32_t* sequence;    // (rows) index of the row's sequence
  const int32_t* slot;        // (rows) the token's index in its stage's cache
  const int32_t* pages;       // (sequences, blocks) pages of this layer
  void* pool;
  KvLayout layout;
  int64_t rows;
  int32_t blocks;
  int32_t heads;
};

}  // namespace himap
