// How sums become y: bias, activation, residual, rounding. Shared by every kernel whose sums lie in the fragments of
// mma.m16n8k16, which are wgmma's as well: 16 rows of the weight's image x 8 n rows of x to a warp.
#pragma once

#include "kernels/linear/launch_linear.h"

namespace himap::device {

HIMAP_DEVICE float quick_gelu(float value) { return value / (1.0f + expf(-1.702f * value)); }
HIMAP_DEVICE float gelu(float value) { return 0.5f * value * (1.0f + erff(value * 0.70710678f)); }

template <class T>
HIMAP_DEVICE void linear_store_one(const LinearOutput& p, int64_t at, float value) {
  if (p.y_is_float) {
    static_cast<float*>(p.y)[at] = value;
    return;
  }
  if (p.maybe_residual) value += to_float(static_cast<const T*>(p.maybe_residual)[at]);
  static_cast<T*>(p.y)[at] = round_to<T>(value);
}

/** What is stored at a time. */
enum class LinearStores {
  kPairs,  // two 16-bit columns, the first even
  kGates,  // one 16-bit column, of gate and up, without a residual
  kAny,    // one column of any kind
};

/** Rows of x at which some of a thread's sums stand: 8 n + e from the first, n below kN, e 0 and 1. */
template <int32_t kN, class Fn>
HIMAP_DEVICE void for_each_row(const Fn& fn) {
  HIMAP_UNROLL
  for (int32_t n = 0; n < kN; ++n) {
    HIMAP_UNROLL
    for (int32_t e = 0; e < 2; ++e) fn(n, e);
  }
}

/**
 * A few rows at a time: what the layer is like is asked once for them, and their residuals are under way together before any of
 * them is written, as y may be the residual. A block comes here with a cold instruction cache, and the loops are unrolled.
 */
template <class T, LinearStores kStores, int32_t kN>
HIMAP_DEVICE void linear_store(const float (&sums)[kN][4], const LinearOutput& p, int32_t row, int32_t column, float bias0, float bias1) {
  constexpr int32_t kBatch = kN < 4 ? kN : 4;
  const T* residual = static_cast<const T*>(p.maybe_residual);
  const bool gate_up = kStores == LinearStores::kGates || (kStores == LinearStores::kAny && p.epilogue == Epilogue::kSwiGlu);
  // Addresses that move on: one for each row would take registers that the sums need.
  int64_t from = int64_t{row} * p.columns + column, to = from;
  HIMAP_UNROLL
  for (int32_t n0 = 0; n0 < kN; n0 += kBatch) {
    const auto there = [&](int32_t n, int32_t e) { return n0 + n < kN && row + 8 * (n0 + n) + e < p.rows; };
    uint32_t words[kBatch][2] = {};
    if (kStores == LinearStores::kPairs && residual) {
      for_each_row<kBatch>([&](int32_t n, int32_t e) {
        if (there(n, e)) words[n][e] = *reinterpret_cast<const uint32_t*>(residual + from);
        from += int64_t{p.columns} * (e == 0 ? 1 : 7);
      });
    }
    float first[kBatch][2], second[kBatch][2];
    for_each_row<kBatch>([&](int32_t n, int32_t e) {
      const int32_t of = n0 + n < kN ? n0 + n : 0;
      first[n][e] = sums[of][e] + bias0;
      second[n][e] = sums[of][2 + e] + bias1;
    });
    if (gate_up) {
      for_each_row<kBatch>([&](int32_t n, int32_t e) { first[n][e] = first[n][e] / (1.0f + expf(-first[n][e])) * second[n][e]; });
    } else if (p.epilogue == Epilogue::kQuickGelu) {
      for_each_row<kBatch>([&](int32_t n, int32_t e) {
        first[n][e] = quick_gelu(first[n][e]);
        second[n][e] = quick_gelu(second[n][e]);
      });
    } else if (p.epilogue == Epilogue::kGelu) {
      for_each_row<kBatch>([&](int32_t n, int32_t e) {
        first[n][e] = gelu(first[n][e]);
        second[n][e] = gelu(second[n][e]);
      });
    }
    if (kStores == LinearStores::kPairs && residual) {
      for_each_row<kBatch>([&](int32_t n, int32_t e) {
        first[n][e] += unpack_low<T>(words[n][e]);
        second[n][e] += unpack_high<T>(words[n][e]);
      });
    }
    for_each_row<kBatch>([&](int32_t n, int32_t e) {
      if (there(n, e)) {
        if constexpr (kStores == LinearStores::kPairs) {
          *reinterpret_cast<uint32_t*>(static_cast<T*>(p.y) + to) = pack<T>(first[n][e], second[n][e]);
        } else if constexpr (kStores == LinearStores::kGates) {
          static_cast<T*>(p.y)[to] = round_to<T>(first[n][e]);
        } else {
          linear_store_one<T>(p, to, first[n][e]);
          if (!gate_up && column + 1 < p.columns) linear_store_one<T>(p, to + 1, second[n][e]);
        }
      }
      to += int64_t{p.columns} * (e == 0 ? 1 : 7);
    });
  }
}

/** Writes one warp's sums of the image's rows 16 `group` .. 16 `group` + 15 and x's rows from `row0`. */
template <class T, int32_t kN>
HIMAP_DEVICE void linear_output(const float (&sums)[kN][4], const LinearOutput& p, int32_t group, int32_t row0) {
  const int32_t g = lane_id() / 4, row = row0 + lane_id() % 4 * 2;
  const bool gate_up = p.epilogue == Epilogue::kSwiGlu;
  const int32_t column = gate_up ? group * 8 + g : group * 16 + 2 * g;
  if (column >= p.columns) return;
  const int32_t second_bias = gate_up ? p.columns + column : column + 1;
  const bool has_second = gate_up || column + 1 < p.columns;
  const float bias0 = p.maybe_bias ? p.maybe_bias[column] : 0.0f;
  const float bias1 = p.maybe_bias && has_second ? p.maybe_bias[second_bias] : 0.0f;
  if (!p.y_is_float && !gate_up && p.columns % 2 == 0) {
    linear_store<T, LinearStores::kPairs>(sums, p, row, column, bias0, bias1);
  } else if (!p.y_is_float && gate_up && !p.maybe_residual) {
    linear_store<T, LinearStores::kGates>(sums, p, row, column, bias0, bias1);
  } else {
    linear_store<T, LinearStores::kAny>(sums, p, row, column, bias0, bias1);
  }
}

}  // namespace himap::device
