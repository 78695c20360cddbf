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

/** What a tile asks memory for while it computes: of each round, kLineBytes of each of its columns, a line per column. */
struct Ahead {
  const char* from;
  int64_t column_bytes;  // from one column's line to the next one's
  int64_t round_bytes;   // from one round's lines to the next one's
};

/**
 * kRows rows of x against kColumns rows of w. `parked` holds the sums between blocks; the last one adds their lanes up.
 * kPrefetch: asks for `ahead` meanwhile.
 */
template <class Load, int kRows, int kColumns, bool kPrefetch>
HIMAP_INLINE void dot_tile(const char* w, const DotBlock& block, const Ahead& ahead, Vec* parked, float* dots, int64_t dots_stride) {
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
  const auto whole_step = [&]() __attribute__((always_inline)) {
    step([&](int c) __attribute__((always_inline)) { return Load::at(w + (c * depth + k) * Load::kBytes); },
         [&](int r) __attribute__((always_inline)) { return load(x + r * x_stride + k); });
    k += kWidth;
  };
  if constexpr (kPrefetch) {
    constexpr int kSteps = kLineBytes / (kWidth * Load::kBytes);
    for (const char* lines = ahead.from; k + kSteps * kWidth <= block.end; lines += ahead.round_bytes) {
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) prefetch(lines + c * ahead.column_bytes);
#pragma GCC unroll 8
      for (int i = 0; i < kSteps; ++i) whole_step();
    }
  }
  while (k + kWidth <= block.end) whole_step();
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

/**
 * The same where weights are asked for ahead. One row of x is best with as few columns side by side as keep up with memory: a
 * single chain of additions takes 16 lanes of 16 bits fast enough; 8 lanes need two of them, and lines of F32 come faster for four.
 */
constexpr int columns_of(int rows, int weight_bytes) {
  return rows > 1 ? columns_of(rows) : weight_bytes == 4 ? 4 : kWidth == 16 ? 1 : 2;
}

// The x of several rows goes block by block through the first cache, kBlockX floats at a time, past kTiles tiles whose
// sums wait meanwhile: a tile's sum is one chain of additions all the same.
constexpr int64_t kBlockX = 4096;
constexpr int kTiles = 8;

/** One row of x: what is asked for lies at least that far ahead, or memory is not done when it is needed. */
constexpr int64_t kAheadBytes = 8192;

/** All columns for kRows rows. */
template <class Load, int kRows, bool kPrefetch>
void dot_columns(const char* w, int64_t depth, int64_t columns, const float* x, int64_t x_stride, float* dots,
                 int64_t dots_stride) {
  constexpr int kColumns = kPrefetch ? columns_of(kRows, Load::kBytes) : columns_of(kRows);
  const int64_t block_depth = kRows == 1 ? depth : kBlockX / kRows;
  const auto at = [&](int64_t column, int64_t k) { return w + (column * depth + k) * Load::kBytes; };
  Vec parked[kTiles][kRows * kColumns];
  int64_t c = 0;
  while (c < columns) {
    const int64_t tiles = (columns - c) / kColumns < kTiles ? (columns - c) / kColumns : kTiles;
    const int64_t singles = tiles == 0 ? columns - c : 0;
    DotBlock block{depth, 0, 0, x, x_stride};
    // One row reads on from where its tile ends, several read this tile's next block or the first one of the tile after kTiles.
    const auto ahead_of = [&](int64_t column) -> Ahead {
      if (kRows > 1) {
        const char* next = block.end < depth ? at(column, block.end) : at(column + tiles * kColumns, 0);
        return {next, depth * Load::kBytes, kLineBytes};
      }
      const int64_t tile_bytes = kColumns * depth * Load::kBytes;
      return {at(column, 0) + (tile_bytes > kAheadBytes ? tile_bytes : kAheadBytes), kLineBytes, kColumns * kLineBytes};
    };
    for (; block.first < depth; block.first = block.end) {
      block.end = block.first + block_depth < depth ? block.first + block_depth : depth;
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t column = c + t * kColumns;
        dot_tile<Load, kRows, kColumns, kPrefetch>(at(column, 0), block, ahead_of(column), parked[t], dots + column, dots_stride);
      }
      for (int64_t t = 0; t < singles; ++t) {
        dot_tile<Load, kRows, 1, false>(at(c + t, 0), block, {}, parked[t], dots + c + t, dots_stride);
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
              float* dots, int64_t dots_stride, bool prefetch) {
  with_loader(type, [&](auto loader) {
    using Load = decltype(loader);
    const char* from = static_cast<const char*>(w);
    int64_t r = 0;
    const auto passes_of = [&](auto rows_at_once) {
      constexpr int kRows = decltype(rows_at_once)::value;
      for (; r + kRows <= rows; r += kRows) {
        constexpr auto with = dot_columns<Load, kRows, true>;
        constexpr auto without = dot_columns<Load, kRows, false>;
        (prefetch ? with : without)(from, depth, columns, x + r * x_stride, x_stride, dots + r * dots_stride, dots_stride);
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
