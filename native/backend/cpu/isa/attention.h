// Attention: one query tile of a prompt with its column sums, and one split of a decoded row.
//
// A row's arithmetic never looks at the other rows of its tile: every product is a register tile of fixed shape over
// whole key tiles, masked keys get probability exactly zero, and reductions run along the row's own lanes.
#pragma once

#include "native/backend/cpu/isa/gemm.h"
#include "native/backend/cpu/isa/rows.h"
#include "native/backend/cpu/scratch.h"

namespace himap {
namespace {

// 64 query rows are whole register tiles of 8 or 4 rows, not of 12.
#if defined(HIMAP_ISA_AVX512) || defined(__aarch64__)
constexpr int kAttentionRows = 8;
#else
constexpr int kAttentionRows = 4;
#endif
static_assert(kQueryTile % kAttentionRows == 0 && kKeyTile % kPanel == 0 && kBlockPanels >= kPanel, "whole tiles");

struct AttentionScratch {
  float* q;       // (depth blocks, kQueryTile, kPackedStride) scaled
  float* k;       // (depth blocks, key panels, depth, kPanel)
  float* v;       // (value panels, kKeyTile, kPanel)
  float* scores;  // (kQueryTile, kScoreStride)
  float* out;     // (kQueryTile, padded head_dim)
  float* max;     // (kQueryTile)
  float* total;   // (kQueryTile)
  int32_t out_stride;
};

AttentionScratch lay_out(float* scratch, int32_t head_dim) {
  const AttentionScratchLayout layout(head_dim);
  return {scratch, scratch + layout.k, scratch + layout.v, scratch + layout.scores, scratch + layout.out,
          scratch + layout.max, scratch + layout.total, layout.padded};
}

void pack_queries(const AttentionTile& t, const AttentionScratch& s) {
  for (int32_t d0 = 0, block = 0; d0 < t.head_dim; d0 += kBlockK, ++block) {
    const int32_t depth = t.head_dim - d0 < kBlockK ? t.head_dim - d0 : kBlockK;
    for (int32_t r = 0; r < kQueryTile; ++r) {
      float* to = s.q + (int64_t{block} * kQueryTile + r) * kPackedStride;
      const float* from = t.q + (t.first + r) * t.qkv_stride + d0;
      for_vectors(depth, [&](int64_t i, int64_t n) { put(to + i, r < t.rows ? take(from + i, n) * t.scale : Vec{}, n); });
    }
  }
}

void pack_keys(const AttentionTile& t, int32_t first, int32_t keys, const AttentionScratch& s) {
  float* to = s.k;
  for (int32_t d0 = 0; d0 < t.head_dim; d0 += kBlockK) {
    const int32_t depth = t.head_dim - d0 < kBlockK ? t.head_dim - d0 : kBlockK;
    for (int32_t p = 0; p < kKeyTile; p += kPanel) {
      const int32_t valid = keys - p < 0 ? 0 : keys - p < kPanel ? keys - p : kPanel;
      const float* rows = t.k + int64_t{first + p} * t.qkv_stride + d0;
      pack_panel_of<LoadF32>(reinterpret_cast<const char*>(rows), t.qkv_stride * 4, valid, depth, to);
      to += int64_t{depth} * kPanel;
    }
  }
}

void pack_values(const AttentionTile& t, int32_t first, int32_t keys, const AttentionScratch& s) {
  float* to = s.v;
  for (int32_t d0 = 0; d0 < t.head_dim; d0 += kPanel) {
    for (int32_t k = 0; k < kKeyTile; ++k, to += kPanel) {
      const float* from = t.v + (first + k) * t.qkv_stride + d0;
      for (int32_t i = 0; i < kPanel; i += kWidth) {
        const int32_t n = t.head_dim - d0 - i;
        store(to + i, k >= keys || n <= 0 ? Vec{} : n >= kWidth ? load(from + i) : load_first(from + i, n));
      }
    }
  }
}

/** scores = scale q k^T of a key tile for the register tiles that hold rows; keys out of sight become -infinity. */
void score_tile(const AttentionTile& t, int32_t first, int32_t keys, const AttentionScratch& s) {
  const float* b = s.k;
  for (int32_t d0 = 0, block = 0; d0 < t.head_dim; d0 += kBlockK, ++block) {
    const int32_t depth = t.head_dim - d0 < kBlockK ? t.head_dim - d0 : kBlockK;
    for (int32_t p = 0; p < kKeyTile; p += kPanel, b += int64_t{depth} * kPanel) {
      for (int32_t r = 0; r < t.rows; r += kAttentionRows) {
        gemm_tile<kAttentionRows, kPackedStride>(s.q + (int64_t{block} * kQueryTile + r) * kPackedStride, b, depth,
                                                 block > 0, s.scores + r * kScoreStride + p, kScoreStride);
      }
    }
  }
  for (int32_t r = 0; r < t.rows; ++r) {
    const int32_t seen = t.causal ? t.first + r - first + 1 : keys;
    const int32_t end = seen < keys ? seen : keys;
    for (int32_t c = end / kWidth * kWidth; c < kKeyTile; c += kWidth) {
      float* at = s.scores + r * kScoreStride + c;
      store(at, lanes() + c < end ? load(at) : splat(-__builtin_inff()));
    }
  }
}

/** Scores become exp(score - max); what is there already is rescaled to the new maximum. */
void online_softmax(const AttentionTile& t, const AttentionScratch& s) {
  float factors[kQueryTile];  // the old maximum less the new one, then its exponential
  for (int32_t r = 0; r < t.rows; ++r) {
    const float* row = s.scores + r * kScoreStride;
    Vec high = splat(s.max[r]);
    for (int32_t c = 0; c < kKeyTile; c += kWidth) high = max(high, load(row + c));
    const float new_max = max_lanes(high);
    factors[r] = s.max[r] - new_max;
    s.max[r] = new_max;
  }
  for_vectors(t.rows, [&](int64_t i, int64_t n) { put(factors + i, exp(take(factors + i, n)), n); });
  for (int32_t r = 0; r < t.rows; ++r) {
    float* row = s.scores + r * kScoreStride;
    Vec total = {};
    for (int32_t c = 0; c < kKeyTile; c += kWidth) {
      const Vec p = exp(load(row + c) - s.max[r]);
      store(row + c, p);
      total += p;
    }
    s.total[r] = s.total[r] * factors[r] + sum_lanes(total);
    if (factors[r] == 1.0f) continue;
    float* out = s.out + int64_t{r} * s.out_stride;
    for (int32_t i = 0; i < s.out_stride; i += kWidth) store(out + i, load(out + i) * factors[r]);
  }
}

/** out += probabilities v. */
void add_values(const AttentionTile& t, const AttentionScratch& s) {
  for (int32_t p = 0; p < s.out_stride; p += kPanel) {
    for (int32_t r = 0; r < t.rows; r += kAttentionRows) {
      gemm_tile<kAttentionRows, kScoreStride>(s.scores + r * kScoreStride, s.v + int64_t{p} * kKeyTile, kKeyTile, true,
                                              s.out + int64_t{r} * s.out_stride + p, s.out_stride);
    }
  }
}

/** The second pass: with each row's maximum and total known, its probabilities again, summed over the voters. */
void column_sums(const AttentionTile& t, const AttentionScratch& s) {
  const int32_t columns = t.end_column - t.first_column;
  const int32_t seen = t.causal ? t.first + t.rows : t.length;
  uint8_t wanted = 0;
  for (int32_t g = 0; g < t.groups; ++g) wanted |= t.group_masks[g];
  bool any = false;
  for (int32_t r = 0; r < t.rows; ++r) any = any || (t.maybe_votes[r] & wanted) != 0;
  __builtin_memset(t.sums, 0, static_cast<size_t>(t.groups) * static_cast<size_t>(columns) * 4);
  if (!any) return;
  for (int32_t first = t.first_column / kKeyTile * kKeyTile; first < t.end_column && first < seen; first += kKeyTile) {
    const int32_t keys = t.length - first < kKeyTile ? t.length - first : kKeyTile;
    pack_keys(t, first, keys, s);
    score_tile(t, first, keys, s);
    for (int32_t r = 0; r < t.rows; ++r) {
      if (!(t.maybe_votes[r] & wanted)) continue;
      float* row = s.scores + r * kScoreStride;
      const float factor = 1.0f / s.total[r];
      for (int32_t c = 0; c < kKeyTile; c += kWidth) store(row + c, exp(load(row + c) - s.max[r]) * factor);
    }
    for (int32_t g = 0; g < t.groups; ++g) {
      for (int32_t c = 0; c < kKeyTile; c += kWidth) {
        Vec total = {};
        for (int32_t r = 0; r < t.rows; ++r) {
          if (t.maybe_votes[r] & t.group_masks[g]) total += load(s.scores + r * kScoreStride + c);
        }
        float out[kWidth];
        store(out, total);
        for (int32_t i = 0; i < kWidth; ++i) {
          const int32_t column = first + c + i;
          if (column < t.first_column || column >= t.end_column) continue;
          t.sums[int64_t{g} * columns + column - t.first_column] = out[i];
        }
      }
    }
  }
}

void attention_tile(const AttentionTile& t, float* scratch) {
  const AttentionScratch s = lay_out(scratch, t.head_dim);
  pack_queries(t, s);
  for (int32_t r = 0; r < kQueryTile; ++r) {
    s.max[r] = -__builtin_inff();
    s.total[r] = 0;
  }
  __builtin_memset(s.out, 0, static_cast<size_t>(kQueryTile) * static_cast<size_t>(s.out_stride) * 4);
  // Register tiles read whole groups of rows; those after the last row must hold numbers.
  __builtin_memset(s.scores, 0, size_t{kQueryTile} * kScoreStride * 4);
  const int32_t seen = t.causal ? t.first + t.rows : t.length;
  for (int32_t first = 0; first < seen; first += kKeyTile) {
    const int32_t keys = t.length - first < kKeyTile ? t.length - first : kKeyTile;
    pack_keys(t, first, keys, s);
    pack_values(t, first, keys, s);
    score_tile(t, first, keys, s);
    online_softmax(t, s);
    add_values(t, s);
  }
  for (int32_t r = 0; r < t.rows; ++r) {
    divide_row(s.out + int64_t{r} * s.out_stride, s.total[r], t.head_dim, t.y + (t.first + r) * t.y_stride);
  }
  if (t.maybe_votes) column_sums(t, s);
}

template <class Load>
void decode_split_of(const DecodeSplit& p, float* weights, float* max_out, float* total_out, float* sum) {
  const auto row = [&](const void* const* pages, int32_t token) {
    return static_cast<const char*>(pages[token / p.page_tokens]) +
           int64_t{token % p.page_tokens} * p.head_dim * Load::kBytes;
  };
  const auto at = [](const char* from, int64_t n) { return n == kWidth ? Load::at(from) : Load::first_at(from, n); };
  float high = -__builtin_inff();
  for (int32_t token = 0; token < p.tokens; ++token) {
    const char* key = row(p.keys, token);
    Vec dot = {};
    for_vectors(p.head_dim, [&](int64_t i, int64_t n) { dot = fma(take(p.q + i, n), at(key + i * Load::kBytes, n), dot); });
    weights[token] = sum_lanes(dot) * p.scale;
    high = weights[token] > high ? weights[token] : high;
  }
  Vec total = {};
  for_vectors(p.tokens, [&](int64_t i, int64_t n) {
    Vec e = exp(take(weights + i, n) - high);
    if (n < kWidth) e = lanes() < static_cast<int32_t>(n) ? e : Vec{};
    put(weights + i, e, n);
    total += e;
  });
  // The row's columns in groups of four vectors, which stay in registers while the tokens pass.
  for (int32_t d0 = 0; d0 < p.head_dim; d0 += 4 * kWidth) {
    Vec acc[4] = {};
    for (int32_t token = 0; token < p.tokens; ++token) {
      const char* value = row(p.values, token) + int64_t{d0} * Load::kBytes;
      const Vec weight = splat(weights[token]);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const int32_t n = p.head_dim - d0 - j * kWidth;
        if (n > 0) acc[j] = fma(weight, at(value + j * kWidth * Load::kBytes, n < kWidth ? n : kWidth), acc[j]);
      }
    }
    for (int j = 0; j < 4; ++j) {
      const int32_t n = p.head_dim - d0 - j * kWidth;
      if (n > 0) put(sum + d0 + j * kWidth, acc[j], n < kWidth ? n : kWidth);
    }
  }
  *max_out = high;
  *total_out = sum_lanes(total);
}

void decode_split(const DecodeSplit& p, float* weights, float* max_out, float* total_out, float* sum) {
  with_loader(p.type, [&](auto loader) { decode_split_of<decltype(loader)>(p, weights, max_out, total_out, sum); });
}

void merge_split(float later_max, float later_total, const float* later_sum, int32_t head_dim, float* max_inout,
                 float* total, float* sum) {
  const float high = later_max > *max_inout ? later_max : *max_inout;
  const float factor = exp(splat(*max_inout - high))[0];
  const float later_factor = exp(splat(later_max - high))[0];
  *total = *total * factor + later_total * later_factor;
  for_vectors(head_dim, [&](int64_t i, int64_t n) {
    put(sum + i, fma(take(later_sum + i, n), splat(later_factor), take(sum + i, n) * factor), n);
  });
  *max_inout = high;
}

}  // namespace
}  // namespace himap
