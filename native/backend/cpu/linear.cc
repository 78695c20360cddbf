// Linear layers of both phases, and the logits.
#include <cstring>

#include "native/backend/cpu/gemm.h"

namespace himap {
namespace {

/** The decode family: a task is a group of columns for all rows; its weights are read once from memory. */
void gemv(Device& device, const float* x, const GemmParams& p) {
  const CpuKernels& kernels = device.kernels;
  const Weight& weight = *p.weight;
  const int64_t columns = weight.columns();
  const WeightGroups groups(weight, kDotColumns);
  const int64_t group_bytes = dtype_bytes(weight.parts[0].type, weight.out / groups.count() * weight.in);
  device.pool.parallel_for(groups.count(), rows_per_chunk(group_bytes * p.rows), [&](int64_t begin, int64_t end, int32_t thread) {
    float* dots = device.scratch[thread].grow(kDotFloats);
    float* up = dots + kDotRows * kDotColumns;
    for (int64_t g = begin; g < end; ++g) {
      const WeightRows at = groups[g];
      for (int64_t row = 0; row < p.rows; row += kDotRows) {
        const int64_t rows = std::min<int64_t>(kDotRows, p.rows - row);
        const auto dot = [&](const WeightPart& part, float* to) {
          kernels.dot_rows(row_address(part, at.row), part.type, weight.in, at.rows, x + row * weight.in, weight.in,
                           rows, to, kDotColumns, device.prefetches);
        };
        dot(*at.part, dots);
        if (at.maybe_up) dot(*at.maybe_up, up);
        const int64_t y0 = row * columns + at.column;
        kernels.finish({.dots = dots,
                        .maybe_up = at.maybe_up ? up : nullptr,
                        .dots_stride = kDotColumns,
                        .rows = rows,
                        .columns = at.rows,
                        .epilogue = p.epilogue,
                        .maybe_bias = p.maybe_bias ? p.maybe_bias + at.column : nullptr,
                        .maybe_up_bias = p.maybe_bias && at.maybe_up ? p.maybe_bias + columns + at.column : nullptr,
                        .maybe_residual = p.maybe_residual ? p.maybe_residual + y0 : nullptr,
                        .y = p.y + y0,
                        .y_stride = columns});
      }
    }
  });
}

void check_rows(const char* where, const void* x, const Weight* weight, const void* y, int64_t rows) {
  check(rows >= 0, where, "rows must be at least 0", rows);
  check_pointer(weight, where, "weight");
  if (rows == 0) return;
  check_pointer(x, where, "x");
  check_pointer(y, where, "y");
}

}  // namespace

void linear(Device& device, const LinearParams& params) {
  check_rows("linear", params.x, params.weight, params.y, params.rows);
  const auto epilogue = static_cast<int32_t>(params.epilogue);
  check(epilogue >= 0 && epilogue <= static_cast<int32_t>(Epilogue::kSwiGlu), "linear", "epilogue must be 0 to 3", epilogue);
  check((params.epilogue == Epilogue::kSwiGlu) == (params.weight->layout == WeightLayout::kGateUp), "linear",
        "a weight imported as gate and up must meet the SwiGLU epilogue, and no other weight may", epilogue);
  const auto* x = static_cast<const float*>(params.x);
  const GemmParams p{.weight = params.weight,
                     .rows = params.rows,
                     .epilogue = params.epilogue,
                     .maybe_bias = params.maybe_bias,
                     .maybe_residual = static_cast<const float*>(params.maybe_residual),
                     .y = static_cast<float*>(params.y)};
  if (params.rows == 0) return;
  if (params.phase == Phase::kDecode) return gemv(device, x, p);
  check(params.phase == Phase::kPrefill, "linear", "phase must be 0 or 1", static_cast<int32_t>(params.phase));
  const int64_t in = params.weight->in;
  gemm(device, p, [x, in](int64_t row, int64_t first, int32_t depth, float* to) {
    std::memcpy(to, x + row * in + first, static_cast<size_t>(depth) * sizeof(float));
  });
}

void logits(Device& device, const LogitsParams& params) {
  check_rows("logits", params.x, params.weight, params.y, params.rows);
  check(params.weight->layout == WeightLayout::kStacked, "logits", "the weight must be stacked", 1);
  gemv(device, static_cast<const float*>(params.x),
       {.weight = params.weight, .rows = params.rows, .epilogue = Epilogue::kNone, .y = params.y});
}

}  // namespace himap
