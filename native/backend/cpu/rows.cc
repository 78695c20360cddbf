// Operations that treat each row by itself: embed, norm, gather.
#include <cstring>
#include <string>

#include "native/backend/cpu/device.h"
#include "native/backend/cpu/weight.h"

namespace himap {

void embed(Device& device, const EmbedParams& params) {
  constexpr const char* kWhere = "embed";
  check(params.rows >= 0, kWhere, "rows must be at least 0", params.rows);
  check_pointer(params.table, kWhere, "table");
  if (params.rows == 0) return;
  check_pointer(params.source, kWhere, "source");
  check_pointer(params.y, kWhere, "y");
  const Weight& table = *params.table;
  check(table.layout == WeightLayout::kStacked, kWhere, "the table must be stacked", 1);
  const int64_t width = table.in;
  for (int64_t r = 0; r < params.rows; ++r) {
    const int64_t source = params.source[r];
    check(source < table.out, kWhere, ("token ids must be below " + std::to_string(table.out)).c_str(), source);
    check(source >= 0 || params.maybe_features, kWhere, "a row of features was asked for and none were given", source);
  }
  const WeightGroups rows(table, 1);
  device.pool.parallel_for(params.rows, rows_per_chunk(width * 4), [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      float* y = static_cast<float*>(params.y) + r * width;
      const int64_t source = params.source[r];
      if (source < 0) {
        std::memcpy(y, static_cast<const float*>(params.maybe_features) + (-1 - source) * width,
                    static_cast<size_t>(width) * sizeof(float));
      } else {
        const WeightRows at = rows[source];
        device.kernels.load_row(row_address(*at.part, at.row), at.part->type, width, y);
      }
    }
  });
}

void norm(Device& device, const NormParams& params) {
  constexpr const char* kWhere = "norm";
  check(params.rows >= 0, kWhere, "rows must be at least 0", params.rows);
  check(params.width > 0, kWhere, "width must be positive", params.width);
  if (params.rows == 0) return;
  check_pointer(params.x, kWhere, "x");
  check_pointer(params.weight, kWhere, "weight");
  check_pointer(params.y, kWhere, "y");
  device.pool.parallel_for(params.rows, rows_per_chunk(params.width * 4), [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      const float* x = static_cast<const float*>(params.x) + r * params.width;
      float* y = static_cast<float*>(params.y) + r * params.width;
      if (params.maybe_bias) device.kernels.layer_norm(x, params.weight, params.maybe_bias, params.width, params.eps, y);
      else device.kernels.rms_norm(x, params.weight, params.width, params.eps, y);
    }
  });
}

void gather(Device& device, const GatherParams& params) {
  constexpr const char* kWhere = "gather";
  check(params.rows >= 0, kWhere, "rows must be at least 0", params.rows);
  check(params.n >= 0 && params.n <= kMaxGathered, kWhere, ("n must be 0 to " + std::to_string(kMaxGathered)).c_str(), params.n);
  if (params.rows == 0) return;
  check_pointer(params.index, kWhere, "index");
  int64_t bytes = 0;  // of a row of every array
  for (int32_t a = 0; a < params.n; ++a) {
    check_pointer(params.arrays[a].in, kWhere, "in");
    check_pointer(params.arrays[a].out, kWhere, "out");
    check(params.arrays[a].row_bytes > 0, kWhere, "row_bytes must be positive", params.arrays[a].row_bytes);
    bytes += params.arrays[a].row_bytes;
  }
  for (int64_t r = 0; r < params.rows; ++r) check(params.index[r] >= 0, kWhere, "indices must be at least 0", params.index[r]);
  device.pool.parallel_for(params.rows, rows_per_chunk(bytes), [&](int64_t begin, int64_t end, int32_t) {
    for (int32_t a = 0; a < params.n; ++a) {
      const auto& array = params.arrays[a];
      for (int64_t r = begin; r < end; ++r) {
        std::memcpy(static_cast<char*>(array.out) + r * array.row_bytes,
                    static_cast<const char*>(array.in) + params.index[r] * array.row_bytes,
                    static_cast<size_t>(array.row_bytes));
      }
    }
  });
}

}  // namespace himap
