// The prefill family: packed panels, register tiles, epilogues; see linear.cc for the blocking around them.
#pragma once

#include "native/backend/cpu/isa/math.h"
#include "native/backend/cpu/kernels.h"

namespace himap {
namespace {

// Register tiles of kTileRows x 2 vectors: the accumulators fill the register file but for the operands.
#if defined(HIMAP_ISA_AVX512) || defined(__aarch64__)
constexpr int kTileRows = 12;
#else
constexpr int kTileRows = 6;
#endif
constexpr int kTailRows = kTileRows / 3;  // of the tiles that take what whole ones leave
constexpr int kPanel = 2 * kWidth;
static_assert(kBlockRows % kTileRows == 0 && kBlockPanels % kPanel == 0, "blocks are whole tiles");

template <class Load>
void pack_panel_of(const char* rows, int64_t stride_bytes, int32_t valid, int32_t depth, float* panel) {
  for (int32_t c0 = 0; c0 < kPanel; c0 += kWidth) {
    for (int32_t k = 0; k < depth; k += kWidth) {
      const int32_t n = depth - k < kWidth ? depth - k : kWidth;
      Vec block[kWidth];
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) {
        const char* from = rows + (c0 + i) * stride_bytes + int64_t{k} * Load::kBytes;
        if (c0 + i >= valid) block[i] = Vec{};
        else block[i] = n == kWidth ? Load::at(from) : Load::first_at(from, n);
      }
      transpose(block);
      float* to = panel + int64_t{k} * kPanel + c0;
      if (n == kWidth) {
#pragma GCC unroll 16
        for (int i = 0; i < kWidth; ++i) store(to + i * kPanel, block[i]);
      } else {
        for (int i = 0; i < n; ++i) store(to + i * kPanel, block[i]);
      }
    }
  }
}

void pack_panel(const void* rows, DType type, int64_t stride, int32_t valid, int64_t first, int32_t depth,
                float* panel) {
  with_loader(type, [&](auto loader) {
    using Load = decltype(loader);
    const char* from = static_cast<const char*>(rows) + first * Load::kBytes;
    pack_panel_of<Load>(from, stride * Load::kBytes, valid, depth, panel);
  });
}

/**
 * One register tile: a (kRows, depth) b (depth, kPanel), each element one chain of multiply-adds over depth, so that its
 * bits are the same whatever kRows is. put(row, vector of the panel, sum) takes the result.
 */
template <int kRows, int kStride, class Put>
HIMAP_INLINE void gemm_tile(const float* a, const float* b, int32_t depth, const Put& put) {
  Vec sum[kRows][2];
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) sum[i][0] = sum[i][1] = Vec{};
#pragma GCC unroll 4
  for (int32_t k = 0; k < depth; ++k) {
    const Vec b0 = load(b);
    const Vec b1 = load(b + kWidth);
    b += kPanel;
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
      const float* at = a + i * kStride + k;
      // Every third row goes without a splat: loads have room for it, and fewer instructions leave the front end some where
      // a sibling thread takes every other cycle of it.
      if (i % 3 == 0) {
        sum[i][0] = fma_from(at, b0, sum[i][0]);
        sum[i][1] = fma_from(at, b1, sum[i][1]);
        continue;
      }
      const Vec x = splat(*at);
      sum[i][0] = fma(x, b0, sum[i][0]);
      sum[i][1] = fma(x, b1, sum[i][1]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) {
    put(i, 0, sum[i][0]);
    put(i, 1, sum[i][1]);
  }
}

template <int kRows>
void block_tile(const float* a, const float* b, int32_t depth, bool accumulate, float* c, int64_t c_stride) {
  gemm_tile<kRows, kPackedStride>(a, b, depth, [=](int i, int j, Vec sum) {
    float* to = c + i * c_stride + j * kWidth;
    store(to, accumulate ? sum + load(to) : sum);
  });
}

void gemm_block(const float* a, int32_t rows, const float* b, int32_t panels, int32_t depth, bool accumulate, float* c,
                int64_t c_stride) {
  // A panel stays in L1 while the rows stream past it.
  for (int32_t p = 0; p < panels; ++p, b += int64_t{depth} * kPanel, c += kPanel) {
    int32_t r = 0;
    for (; r + kTileRows <= rows; r += kTileRows) {
      block_tile<kTileRows>(a + int64_t{r} * kPackedStride, b, depth, accumulate, c + r * c_stride, c_stride);
    }
    for (; r < rows; r += kTailRows) {
      block_tile<kTailRows>(a + int64_t{r} * kPackedStride, b, depth, accumulate, c + r * c_stride, c_stride);
    }
  }
}

HIMAP_INLINE Vec activate(Epilogue epilogue, Vec x) {
  if (epilogue == Epilogue::kQuickGelu) return x * sigmoid(1.702f * x);
  if (epilogue == Epilogue::kGelu) return gelu(x);
  return x;
}

void finish(const Finish& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    const float* dots = p.dots + r * p.dots_stride;
    float* y = p.y + r * p.y_stride;
    for (int32_t c = 0; c < p.columns; c += kWidth) {
      const int32_t n = p.columns - c < kWidth ? p.columns - c : kWidth;
      const auto take = [c, n](const float* from) { return n == kWidth ? load(from + c) : load_first(from + c, n); };
      Vec value = take(dots);
      if (p.maybe_bias) value += take(p.maybe_bias);
      if (p.maybe_up) {
        Vec up = take(p.maybe_up + r * p.dots_stride);
        if (p.maybe_up_bias) up += take(p.maybe_up_bias);
        value = value * sigmoid(value) * up;
      } else {
        value = activate(p.epilogue, value);
      }
      if (p.maybe_residual) value += take(p.maybe_residual + r * p.y_stride);
      if (n == kWidth) store(y + c, value);
      else store_first(y + c, value, n);
    }
  }
}

}  // namespace
}  // namespace himap
