// Attention of one new row per sequence over its pages. Keys are taken in splits of kDecodeSplit tokens, each with its
// own softmax state, merged in ascending order: the arithmetic depends on the length alone, never on the batch.
#pragma once

#include "kernels/kv_layout.h"

namespace himap {

constexpr int32_t kDecodeSplit = 256;

struct AttentionDecodeParams {
  const void* qkv;         // (rows, (heads + 2 kv_heads) * head_dim) activations, q already rotated
  void* y;                 // (rows, heads * head_dim) activations
  const void* pool;
  KvLayout layout;
  const int32_t* pages;    // (rows, blocks) pages of this layer
  const int32_t* lengths;  // (rows) tokens to attend to, the new one included
  int64_t rows;
  int32_t blocks;
  int32_t heads;
  float scale;
};

}  // namespace himap
