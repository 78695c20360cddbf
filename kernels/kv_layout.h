// Where a key or value lies in the KV pool: the only place that knows.
//
// The pool is an array of pages. A page holds kPageTokens tokens of ONE layer, keys before values, heads outside tokens
// (K: kv_heads x tokens x head_dim, then V the same), so that one head's keys are contiguous. A sequence has one page
// table per stage and layer; pages of every layer come from the same pool, which is what lets layers hold different
// lengths.
#pragma once

#include "kernels/types.h"

namespace himap {

constexpr int32_t kPageTokens = 32;

struct KvLayout {
  DType type;
  int32_t kv_heads;
  int32_t head_dim;

  /** Elements of one page. */
  HIMAP_HOST_DEVICE constexpr int64_t page_elements() const {
    return int64_t{2} * kv_heads * kPageTokens * head_dim;
  }
  HIMAP_HOST_DEVICE constexpr int64_t page_bytes() const { return page_elements() * (type == DType::kF32 ? 4 : 2); }

  /** Element offset in the pool of the key (value = 0) or value (value = 1) vector of a token of a page, (head_dim). */
  HIMAP_HOST_DEVICE constexpr int64_t offset(int32_t page, int32_t value, int32_t head, int32_t token) const {
    return page * page_elements() + ((int64_t{value} * kv_heads + head) * kPageTokens + token) * head_dim;
  }
};

}  // namespace himap
