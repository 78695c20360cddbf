// The decode family: weights stream past few rows. Each (row, column) pair owns one vector of accumulators, whatever else
// is computed beside it: one row and many give the same bits.
#pragma once

#include "native/backend/cpu/isa/vec.h"

namespace himap {
namespace {

/** kRows rows of x against kColumns rows of w, which stand depth elements apart. */
template <class Load, int kRows, int kColumns>
HIMAP_INLINE void dot_tile(const char* w, int64_t depth, const float* x, int64_t x_stride, float* dots,
                           int64_t dots_stride) {
  Vec sum[kRows][kColumns];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) sum[r][c] = Vec{};
  }
  const auto step = [&](auto weight_at, auto x_at) __attribute__((always_inline)) {
    Vec weights[kColumns];
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) weights[c] = weight_at(c);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const Vec value = x_at(r);
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) sum[r][c] = fma(value, weights[c], sum[r][c]);
    }
  };
  int64_t k = 0;
  for (; k + kWidth <= depth; k += kWidth) {
    step([&](int c) __attribute__((always_inline)) { return Load::at(w + (c * depth + k) * Load::kBytes); },
         [&](int r) __attribute__((always_inline)) { return load(x + r * x_stride + k); });
  }
  if (k < depth) {
    const int64_t n = depth - k;
    step([&](int c) __attribute__((always_inline)) { return Load::first_at(w + (c * depth + k) * Load::kBytes, n); },
         [&](int r) __attribute__((always_inline)) { return load_first(x + r * x_stride + k, n); });
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) dots[r * dots_stride + c] = sum_lanes(sum[r][c]);
  }
}

// Columns per step: eight or more accumulators in flight hide the latency of an addition. Several rows want more of
// them, since their x no longer fits the first cache; the register file sets the limit.
#if defined(HIMAP_ISA_AVX512) || defined(__aarch64__)
constexpr int kColumnsOfFour = 4;
#else
constexpr int kColumnsOfFour = 2;
#endif

/** All columns for kRows rows. */
template <class Load, int kRows>
void dot_columns(const char* w, int64_t depth, int64_t columns, const float* x, int64_t x_stride, float* dots,
                 int64_t dots_stride) {
  constexpr int kColumns = kRows == 1 ? 8 : kRows == 2 ? 4 : kColumnsOfFour;
  int64_t c = 0;
  for (; c + kColumns <= columns; c += kColumns) {
    dot_tile<Load, kRows, kColumns>(w + c * depth * Load::kBytes, depth, x, x_stride, dots + c, dots_stride);
  }
  for (; c < columns; ++c) {
    dot_tile<Load, kRows, 1>(w + c * depth * Load::kBytes, depth, x, x_stride, dots + c, dots_stride);
  }
}

void dot_rows(const void* w, DType type, int64_t depth, int64_t columns, const float* x, int64_t x_stride, int64_t rows,
              float* dots, int64_t dots_stride) {
  with_loader(type, [&](auto loader) {
    using Load = decltype(loader);
    const char* from = static_cast<const char*>(w);
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
      dot_columns<Load, 4>(from, depth, columns, x + r * x_stride, x_stride, dots + r * dots_stride, dots_stride);
    }
    for (; r + 2 <= rows; r += 2) {
      dot_columns<Load, 2>(from, depth, columns, x + r * x_stride, x_stride, dots + r * dots_stride, dots_stride);
    }
    for (; r < rows; ++r) {
      dot_columns<Load, 1>(from, depth, columns, x + r * x_stride, x_stride, dots + r * dots_stride, dots_stride);
    }
  });
}

}  // namespace
}  // namespace himap
