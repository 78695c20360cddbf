// How sums become y: bias, activation, residual, rounding. Shared by every kernel whose sums lie in the fragments of
// mma.m16n8k16, which are wgmma's as well: 16 rows of the weight's image x 8 n rows of x to a warp.
#pragma once

#include "kernels/linear/launch_linear.h"

namespace himap::device {

HIMAP_DEVICE float linear_activate(float value, Epilogue epilogue) {
  if (epilogue == Epilogue::kQuickGelu) return value / (1.0f + expf(-1.702f * value));
  if (epilogue == Epilogue::kGelu) return 0.5f * value * (1.0f + erff(value * 0.70710678f));
  return value;
}

template <class T>
HIMAP_DEVICE void linear_store(const LinearOutput& p, int64_t at, float value) {
  if (p.y_is_float) {
    static_cast<float*>(p.y)[at] = value;
    return;
  }
  if (p.maybe_residual) value += to_float(static_cast<const T*>(p.maybe_residual)[at]);
  static_cast<T*>(p.y)[at] = round_to<T>(value);
}

/** Two neighbouring columns, the first even. */
template <class T>
HIMAP_DEVICE void linear_store_pair(const LinearOutput& p, int64_t at, int32_t column, float first, float second) {
  if (p.y_is_float || p.columns % 2 != 0) {
    linear_store<T>(p, at, first);
    if (column + 1 < p.columns) linear_store<T>(p, at + 1, second);
    return;
  }
  if (p.maybe_residual) {
    const uint32_t residual = *reinterpret_cast<const uint32_t*>(static_cast<const T*>(p.maybe_residual) + at);
    first += unpack_low<T>(residual);
    second += unpack_high<T>(residual);
  }
  *reinterpret_cast<uint32_t*>(static_cast<T*>(p.y) + at) = pack<T>(first, second);
}

/** Writes one warp's sums of the image's rows 16 `group` .. 16 `group` + 15 and x's rows from `row0`. */
template <class T, int32_t kN>
HIMAP_DEVICE void linear_output(const float (&sums)[kN][4], const LinearOutput& p, int32_t group, int32_t row0) {
  const int32_t g = lane_id() / 4, t = lane_id() % 4;
  const bool gate_up = p.epilogue == Epilogue::kSwiGlu;
  const int32_t column = gate_up ? group * 8 + g : group * 16 + 2 * g;
  if (column >= p.columns) return;
  const int32_t second_bias = gate_up ? p.columns + column : column + 1;
  const bool has_second = gate_up || column + 1 < p.columns;
  const float bias0 = p.maybe_bias ? p.maybe_bias[column] : 0.0f;
  const float bias1 = p.maybe_bias && has_second ? p.maybe_bias[second_bias] : 0.0f;
  // One address that moves on: an address for each row would take registers that the sums need.
  int32_t row = row0 + 2 * t;
  int64_t at = int64_t{row} * p.columns + column;
  HIMAP_UNROLL
  for (int32_t n = 0; n < kN; ++n) {
    HIMAP_UNROLL
    for (int32_t e = 0; e < 2; ++e) {
      if (row < p.rows) {
        const float first = sums[n][e] + bias0, second = sums[n][2 + e] + bias1;
        if (gate_up) {
          linear_store<T>(p, at, first / (1.0f + expf(-first)) * second);
        } else {
          linear_store_pair<T>(p, at, column, linear_activate(first, p.epilogue), linear_activate(second, p.epilogue));
        }
      }
      const int32_t step = e == 0 ? 1 : 7;
      row += step;
      at += int64_t{p.columns} * step;
    }
  }
}

}  // namespace himap::device
