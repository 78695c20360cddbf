// The decode family: weights stream past few rows. Each (row, column) pair owns one vector of accumulators, whatever else
// is computed beside it: one row and many give the same bits.
#pragma once

#include "native/backend/cpu/isa/vec.h"

namespace himap {
namespace {

/** A stretch of the depth: elements [first, end) of rows of w and of x. */
struct DotBlock {
  int64_t depth;  // of w's rows, which stand that far apart
  int64_t first;
  int64_t end;
  const float* x;
  int64_t x_stride;
};

/** kRows rows of x against kColumns rows of w. `parked` holds the sums between blocks; the last one adds their lanes up. */
template <class Load, int kRows, int kColumns>
HIMAP_INLINE void dot_tile(const char* w, const DotBlock& block, Vec* parked, float* dots, int64_t dots_stride) {
  const int64_t depth = block.depth;
  const float* x = block.x;
  const int64_t x_stride = block.x_stride;
  Vec sum[kRows][kColumns];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) sum[r][c] = block.first > 0 ? parked[r * kColumns + c] : Vec{};
  }
  const auto step = [&](auto weight_at, auto x_at) __attribute__((always_inline)) {
    Vec weights[kColumns];
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) weights[c] = weight_at(c);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec value = held(x_at(r));
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) sum[r][c] = fma(value, weights[c], sum[r][c]);
    }
  };
  int64_t k = block.first;
  for (; k + kWidth <= block.end; k += kWidth) {
    step([&](int c) __attribute__((always_inline)) { return Load::at(w + (c * depth + k) * Load::kBytes); },
         [&](int r) __attribute__((always_inline)) { return load(x + r * x_stride + k); });
  }
  if (block.end < depth) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) parked[r * kColumns + c] = sum[r][c];
    }
    return;
  }
  if (k < depth) {
    const int64_t n = depth - k;
    step([&](int c) __attribute__((always_inline)) { return Load::first_at(w + (c * depth + k) * Load::kBytes, n); },
         [&](int r) __attribute__((always_inline)) { return load_first(x + r * x_stride + k, n); });
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) dots[r * dots_stride + c] = sum_lanes(sum[r][c]);
  }
}

// Rows that share one pass over the weights, and columns per step. Eight or more accumulators in flight hide the latency of
// an addition, and more of them save loads; the register file sets the limit.
#if defined(HIMAP_ISA_AVX512) || defined(__aarch64__)
constexpr int kMostRows = 8;
constexpr int columns_of(int rows) { return rows == 8 ? 3 : rows == 1 ? 8 : 4; }
#else
constexpr int kMostRows = 4;
constexpr int columns_of(int rows) { return rows == 4 ? 3 : rows == 2 ? 4 : 8; }
#endif

// The x of several rows goes block by block through the first cache, kBlockX floats at a time, past kTiles tiles whose
// sums wait meanwhile: a tile's sum is one chain of additions all the same.
constexpr int64_t kBlockX = 4096;
constexpr int kTiles = 8;

/** All columns for kRows rows. */
template <class Load, int kRows>
void dot_columns(const char* w, int64_t depth, int64_t columns, const float* x, int64_t x_stride, float* dots,
                 int64_t dots_stride) {
  constexpr int kColumns = columns_of(kRows);
  const int64_t block_depth = kRows == 1 ? depth : kBlockX / kRows;
  Vec parked[kTiles][kRows * kColumns];
  int64_t c = 0;
  while (c < columns) {
    const int64_t tiles = (columns - c) / kColumns < kTiles ? (columns - c) / kColumns : kTiles;
    const int64_t singles = tiles == 0 ? columns - c : 0;
    DotBlock block{depth, 0, 0, x, x_stride};
    for (; block.first < depth; block.first = block.end) {
      block.end = block.first + block_depth < depth ? block.first + block_depth : depth;
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t column = c + t * kColumns;
        dot_tile<Load, kRows, kColumns>(w + column * depth * Load::kBytes, block, parked[t], dots + column, dots_stride);
      }
      for (int64_t t = 0; t < singles; ++t) {
        dot_tile<Load, kRows, 1>(w + (c + t) * depth * Load::kBytes, block, parked[t], dots + c + t, dots_stride);
      }
    }
    c += tiles * kColumns + singles;
  }
}

template <int kRows>
struct Rows {
  static constexpr int value = kRows;
};

void dot_rows(const void* w, DType type, int64_t depth, int64_t columns, const float* x, int64_t x_stride, int64_t rows,
              float* dots, int64_t dots_stride) {
  with_loader(type, [&](auto loader) {
    using Load = decltype(loader);
    const char* from = static_cast<const char*>(w);
    int64_t r = 0;
    const auto passes_of = [&](auto rows_at_once) {
      constexpr int kRows = decltype(rows_at_once)::value;
      for (; r + kRows <= rows; r += kRows) {
        dot_columns<Load, kRows>(from, depth, columns, x + r * x_stride, x_stride, dots + r * dots_stride, dots_stride);
      }
    };
    if constexpr (kMostRows == 8) passes_of(Rows<8>{});
    passes_of(Rows<4>{});
    passes_of(Rows<2>{});
    passes_of(Rows<1>{});
  });
}

}  // namespace
}  // namespace himap
