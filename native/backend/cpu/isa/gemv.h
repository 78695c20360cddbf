// The decode family: weights stream past few rows. Each (row, column) pair owns two accumulators, for even and for odd
// vectors of the depth, whatever else is computed beside it: one row and many give the same bits.
#pragma once

#include "native/backend/cpu/isa/vec.h"

namespace himap {
namespace {

/** kRows rows of x against kColumns rows of w, which stand depth elements apart. */
template <class Load, int kRows, int kColumns>
HIMAP_INLINE void dot_tile(const char* w, int64_t depth, const float* x, int64_t x_stride, float* dots,
                           int64_t dots_stride) {
  Vec even[kRows][kColumns];
  Vec odd[kRows][kColumns];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) even[r][c] = odd[r][c] = Vec{};
  }
  const auto step = [&](auto& sums, auto weight_at, auto x_at) __attribute__((always_inline)) {
    Vec weights[kColumns];
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) weights[c] = weight_at(c);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const Vec value = x_at(r);
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) sums[r][c] = fma(value, weights[c], sums[r][c]);
    }
  };
  int64_t k = 0;
  const auto whole = [&](auto& sums) __attribute__((always_inline)) {
    step(sums, [&](int c) __attribute__((always_inline)) { return Load::at(w + (c * depth + k) * Load::kBytes); },
         [&](int r) __attribute__((always_inline)) { return load(x + r * x_stride + k); });
    k += kWidth;
  };
  while (k + 2 * kWidth <= depth) {
    whole(even);
    whole(odd);
  }
  if (k + kWidth <= depth) whole(even);
  if (k < depth) {
    const int64_t n = depth - k;
    step(odd, [&](int c) __attribute__((always_inline)) { return Load::first_at(w + (c * depth + k) * Load::kBytes, n); },
         [&](int r) __attribute__((always_inline)) { return load_first(x + r * x_stride + k, n); });
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) dots[r * dots_stride + c] = sum_lanes(even[r][c] + odd[r][c]);
  }
}

/** All columns for kRows rows. */
template <class Load, int kRows>
void dot_columns(const char* w, int64_t depth, int64_t columns, const float* x, int64_t x_stride, float* dots,
                 int64_t dots_stride) {
  constexpr int kColumns = kRows == 1 ? 4 : kRows == 2 ? 2 : 1;  // eight accumulators in flight
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
