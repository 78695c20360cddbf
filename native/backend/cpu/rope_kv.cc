// Rotation of queries and keys, and the way of keys and values into their pages.
#include "native/backend/cpu/device.h"

namespace himap {

void turn_and_keep(const CpuKernels& kernels, float* row, int32_t heads, const float* cos, const float* sin, void* pool,
                   const KvLayout& layout, int32_t page, int32_t slot) {
  const int32_t head_dim = layout.head_dim;
  for (int32_t h = 0; h < heads + layout.kv_heads; ++h) kernels.rotate(row + int64_t{h} * head_dim, cos, sin, head_dim / 2);
  const float* from = row + int64_t{heads} * head_dim;
  for (int32_t value = 0; value < 2; ++value) {
    for (int32_t h = 0; h < layout.kv_heads; ++h, from += head_dim) {
      const int64_t offset = layout.offset(page, value, h, slot);
      kernels.store_row(from, head_dim, static_cast<char*>(pool) + dtype_bytes(layout.type, offset), layout.type);
    }
  }
}

void rope_kv(Device& device, const RopeKvParams& params) {
  constexpr const char* kWhere = "rope_kv";
  const int32_t head_dim = params.layout.head_dim;
  const int32_t kv_heads = params.layout.kv_heads;
  check(params.rows >= 0, kWhere, "rows must be at least 0", params.rows);
  check_heads(kWhere, params.heads, kv_heads, head_dim);
  if (params.rows == 0) return;
  check(params.blocks > 0, kWhere, "blocks must be positive", params.blocks);
  check_pointer(params.qkv, kWhere, "qkv");
  check_pointer(params.cos, kWhere, "cos");
  check_pointer(params.sin, kWhere, "sin");
  check_pointer(params.positions, kWhere, "positions");
  check_pointer(params.sequence, kWhere, "sequence");
  check_pointer(params.slot, kWhere, "slot");
  check_pointer(params.pages, kWhere, "pages");
  check_pointer(params.pool, kWhere, "pool");
  const int32_t half = head_dim / 2;
  for (int64_t r = 0; r < params.rows; ++r) {
    check(params.positions[r] >= 0, kWhere, "positions must be at least 0", params.positions[r]);
    check(params.sequence[r] >= 0, kWhere, "sequence indices must be at least 0", params.sequence[r]);
    check(params.slot[r] >= 0 && params.slot[r] / kPageTokens < params.blocks, kWhere, "a slot must lie in its pages",
          params.slot[r]);
  }
  const int64_t row_bytes = (int64_t{params.heads} + 2 * kv_heads) * head_dim * 4;
  device.pool.parallel_for(params.rows, rows_per_chunk(row_bytes), [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      float* row = static_cast<float*>(params.qkv) + r * (params.heads + 2 * kv_heads) * head_dim;
      const int64_t angle = int64_t{params.positions[r]} * half;
      const int32_t page = params.pages[int64_t{params.sequence[r]} * params.blocks + params.slot[r] / kPageTokens];
      turn_and_keep(device.kernels, row, params.heads, params.cos + angle, params.sin + angle, params.pool, params.layout, page,
                    params.slot[r] % kPageTokens);
    }
  });
}

}  // namespace himap
