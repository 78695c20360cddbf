// One decode step's attention: the new row of each sequence is turned by its position, its key and value go into the pages,
// and it attends to everything there, itself included. Keys are taken in splits of kDecodeSplit tokens, each with its own
// softmax state, merged in ascending order: the arithmetic depends on the length alone, never on the batch.
#pragma once

#include "kernels/kv_layout.h"

namespace himap {

constexpr int32_t kDecodeSplit = 256;

struct AttentionDecodeParams {
  void* qkv;               // (rows, (heads + 2 kv_heads) * head_dim) activations: all q, all k, all v, not turned yet; undefined afterwards
  void* y;                 // (rows, heads * head_dim) activations
  void* pool;
  KvLayout layout;
  const int32_t* pages;    // (rows, blocks) pages of this layer
  const int32_t* lengths;  // (rows) tokens to attend to, the new one included and last; 0: the row stands for nobody, its y stays
  const float* cos;        // (positions, head_dim / 2)
  const float* sin;        // (positions, head_dim / 2)
  const int32_t* positions;  // (rows)
  int64_t rows;
  int32_t blocks;
  int32_t heads;
  float scale;
};

}  // namespace himap
