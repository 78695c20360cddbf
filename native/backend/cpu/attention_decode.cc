// Attention of one new row per sequence over its pages: its turn and its place in the pages first, a task per row, then one
// task per row and head.
#include <algorithm>

#include "native/backend/cpu/device.h"
#include "native/backend/cpu/scratch.h"

namespace himap {
namespace {

static_assert(kDecodeSplit % kPageTokens == 0, "a split is whole pages");
constexpr int32_t kSplitPages = kDecodeSplit / kPageTokens;

}  // namespace

void attention_decode(Device& device, const AttentionDecodeParams& params) {
  constexpr const char* kWhere = "attention_decode";
  const int32_t head_dim = params.layout.head_dim;
  const int32_t kv_heads = params.layout.kv_heads;
  check(params.rows >= 0, kWhere, "rows must be at least 0", params.rows);
  check_heads(kWhere, params.heads, kv_heads, head_dim);
  if (params.rows == 0) return;
  check(params.blocks > 0, kWhere, "blocks must be positive", params.blocks);
  check_pointer(params.qkv, kWhere, "qkv");
  check_pointer(params.y, kWhere, "y");
  check_pointer(params.pool, kWhere, "pool");
  check_pointer(params.pages, kWhere, "pages");
  check_pointer(params.lengths, kWhere, "lengths");
  check_pointer(params.cos, kWhere, "cos");
  check_pointer(params.sin, kWhere, "sin");
  check_pointer(params.positions, kWhere, "positions");
  for (int64_t r = 0; r < params.rows; ++r) {
    check(params.lengths[r] >= 0 && params.lengths[r] <= int64_t{params.blocks} * kPageTokens, kWhere,
          "a length must be at least 0 and lie in its pages", params.lengths[r]);
    check(params.positions[r] >= 0, kWhere, "positions must be at least 0", params.positions[r]);
  }
  const int64_t heads = params.heads;
  const int64_t group = heads / kv_heads;
  const int64_t row_floats = (heads + 2 * kv_heads) * head_dim;
  device.pool.parallel_for(params.rows, rows_per_chunk(row_floats * 4), [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t row = begin; row < end; ++row) {
      if (params.lengths[row] == 0) continue;
      const int32_t slot = params.lengths[row] - 1;
      const int64_t angle = int64_t{params.positions[row]} * (head_dim / 2);
      turn_and_keep(device.kernels, static_cast<float*>(params.qkv) + row * row_floats, params.heads, params.cos + angle,
                    params.sin + angle, params.pool, params.layout, params.pages[row * params.blocks + slot / kPageTokens],
                    slot % kPageTokens);
    }
  });
  device.pool.parallel_for(params.rows * heads, 1, [&](int64_t begin, int64_t end, int32_t thread) {
    float* weights = device.scratch[thread].grow(decode_scratch_floats(head_dim));
    float* sum = weights + kDecodeSplit;
    float* later_sum = sum + (head_dim + 15) / 16 * 16;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / heads;
      const int64_t head = task % heads;
      if (params.lengths[row] == 0) continue;
      const auto kv_head = static_cast<int32_t>(head / group);
      const int32_t* table = params.pages + row * params.blocks;
      const void* keys[kSplitPages];
      const void* values[kSplitPages];
      float high = 0;
      float total = 0;
      const auto at = [&](int32_t token, int32_t value) {
        return static_cast<const char*>(params.pool) +
               dtype_bytes(params.layout.type, params.layout.offset(table[token / kPageTokens], value, kv_head, 0));
      };
      for (int32_t first = 0; first < params.lengths[row]; first += kDecodeSplit) {
        const int32_t tokens = std::min(kDecodeSplit, params.lengths[row] - first);
        for (int32_t i = 0; i * kPageTokens < tokens; ++i) {
          keys[i] = at(first + i * kPageTokens, 0);
          values[i] = at(first + i * kPageTokens, 1);
        }
        // Behind the last split nothing is known to follow.
        const int32_t next = first + tokens < params.lengths[row] ? first + tokens : first;
        const DecodeSplit split{.q = static_cast<const float*>(params.qkv) + row * row_floats + head * head_dim,
                                .keys = keys,
                                .values = values,
                                .page_tokens = kPageTokens,
                                .tokens = tokens,
                                .head_dim = head_dim,
                                .type = params.layout.type,
                                .scale = params.scale,
                                .maybe_next = device.prefetches ? at(next, 0) : nullptr};
        if (first == 0) {
          device.kernels.decode_split(split, weights, &high, &total, sum);
        } else {
          float later_high;
          float later_total;
          device.kernels.decode_split(split, weights, &later_high, &later_total, later_sum);
          device.kernels.merge_split(later_high, later_total, later_sum, head_dim, &high, &total, sum);
        }
      }
      device.kernels.divide_row(sum, total, head_dim, static_cast<float*>(params.y) + (row * heads + head) * head_dim);
    }
  });
}

}  // namespace himap
