// Attention of prompts: query tiles with their column sums.
//
// A row's arithmetic never looks at the other rows: every element of a product is one chain over the depth, masked keys
// get probability exactly zero, and reductions run along the row's own lanes in a fixed order.
#pragma once

#include "native/backend/cpu/isa/gemm.h"
#include "native/backend/cpu/isa/rows.h"
#include "native/backend/cpu/scratch.h"

namespace himap {
namespace {

// A strip of query rows goes through scores, softmax and values while a key tile and its values stay in L1. It is whole
// register tiles of 8 or 4 rows, not of 12.
#if defined(HIMAP_ISA_AVX512) || defined(__aarch64__)
constexpr int kAttentionRows = 8;
#else
constexpr int kAttentionRows = 4;
#endif
static_assert(kStripRows % kAttentionRows == 0 && kStripRows % kWidth == 0 && kQueryTile % kStripRows == 0, "whole tiles");
static_assert(kKeyTile % kPanel == 0, "whole panels");

struct AttentionScratch {
  float* q;       // (depth blocks, kTaskRows, kPackedStride) scaled
  float* k;       // (depth blocks, key panels, depth, kPanel)
  float* v;       // (value panels, kKeyTile, kPanel)
  float* scores;  // (kStripRows, kScoreStride)
  float* out;     // (kTaskRows, padded head_dim)
  float* max;     // (kTaskRows)
  float* total;   // (kTaskRows)
  int32_t out_stride;
};

AttentionScratch lay_out(float* scratch, int32_t head_dim) {
  const AttentionScratchLayout layout(head_dim);
  return {scratch, scratch + layout.k, scratch + layout.v, scratch + layout.scores, scratch + layout.out,
          scratch + layout.max, scratch + layout.total, layout.padded};
}

int32_t whole_strips(int32_t rows) { return (rows + kStripRows - 1) / kStripRows * kStripRows; }

void pack_queries(const AttentionTask& t, const AttentionScratch& s) {
  for (int32_t d0 = 0, block = 0; d0 < t.head_dim; d0 += kBlockK, ++block) {
    const int32_t depth = t.head_dim - d0 < kBlockK ? t.head_dim - d0 : kBlockK;
    for (int32_t r = 0; r < whole_strips(t.rows); ++r) {
      float* to = s.q + (int64_t{block} * kTaskRows + r) * kPackedStride;
      const float* from = t.q + int64_t{t.first + r} * t.qkv_stride + d0;
      for_vectors(depth, [&](int64_t i, int64_t n) { put(to + i, r < t.rows ? take(from + i, n) * t.scale : Vec{}, n); });
    }
  }
}

/** Keys that the tile from `first` on holds. */
int32_t keys_from(const AttentionTask& t, int32_t first) { return t.length - first < kKeyTile ? t.length - first : kKeyTile; }

void pack_keys(const AttentionTask& t, int32_t first, const AttentionScratch& s) {
  const int32_t keys = keys_from(t, first);
  for (int32_t d0 = 0; d0 < t.head_dim; d0 += kBlockK) {
    const int32_t depth = t.head_dim - d0 < kBlockK ? t.head_dim - d0 : kBlockK;
    for (int32_t p = 0; p < keys; p += kPanel) {
      const int32_t valid = keys - p < kPanel ? keys - p : kPanel;
      const float* rows = t.k + int64_t{first + p} * t.qkv_stride + d0;
      pack_panel_of<LoadF32>(reinterpret_cast<const char*>(rows), t.qkv_stride * 4, valid, depth,
                             s.k + int64_t{d0} * kKeyTile + int64_t{p} * depth);
    }
  }
}

void pack_values(const AttentionTask& t, int32_t first, const AttentionScratch& s) {
  const int32_t keys = keys_from(t, first);
  for (int32_t d0 = 0; d0 < t.head_dim; d0 += kPanel) {
    float* to = s.v + int64_t{d0} * kKeyTile;
    for (int32_t k = 0; k < keys; ++k, to += kPanel) {
      const float* from = t.v + int64_t{first + k} * t.qkv_stride + d0;
      for (int32_t i = 0; i < kPanel; i += kWidth) {
        const int32_t n = t.head_dim - d0 - i;
        store(to + i, n <= 0 ? Vec{} : n >= kWidth ? load(from + i) : load_first(from + i, n));
      }
    }
  }
}

/** The row after the last of the strip from r0 on. */
int32_t strip_end(const AttentionTask& t, int32_t r0) { return r0 + kStripRows < t.rows ? r0 + kStripRows : t.rows; }

/** Keys of the tile from `first` on that some row of the strip from row r0 on sees; none or fewer: 0 or less. */
int32_t keys_in_sight(const AttentionTask& t, int32_t r0, int32_t first) {
  const int32_t seen = t.causal ? t.first + strip_end(t, r0) - first : t.length - first;
  return seen < kKeyTile ? seen : kKeyTile;
}

int32_t whole_vectors(int32_t keys) { return (keys + kWidth - 1) / kWidth * kWidth; }

/** scores = scale q k^T of a strip and the keys in its sight, in whole vectors; keys out of a row's sight become -infinity. */
void score_strip(const AttentionTask& t, int32_t r0, int32_t first, int32_t keys, const AttentionScratch& s) {
  for (int32_t d0 = 0, block = 0; d0 < t.head_dim; d0 += kBlockK, ++block) {
    const int32_t depth = t.head_dim - d0 < kBlockK ? t.head_dim - d0 : kBlockK;
    for (int32_t p = 0; p < keys; p += kPanel) {
      const float* b = s.k + int64_t{d0} * kKeyTile + int64_t{p} * depth;
      for (int32_t r = 0; r < kStripRows; r += kAttentionRows) {
        const float* a = s.q + (int64_t{block} * kTaskRows + r0 + r) * kPackedStride;
        gemm_tile<kAttentionRows, kPackedStride>(a, b, depth, [=](int i, int j, Vec sum) {
          float* to = s.scores + (r + i) * kScoreStride + p + j * kWidth;
          store(to, block > 0 ? sum + load(to) : sum);
        });
      }
    }
  }
  for (int32_t r = 0; r < kStripRows; ++r) {
    const int32_t seen = t.causal ? t.first + r0 + r - first + 1 : keys;
    const int32_t end = seen < keys ? seen : keys;
    for (int32_t c = end / kWidth * kWidth; c < whole_vectors(keys); c += kWidth) {
      float* at = s.scores + r * kScoreStride + c;
      store(at, lanes() + c < end ? load(at) : splat(-__builtin_inff()));
    }
  }
}

/** Scores become exp(score - max); factors (kStripRows) are what the values summed so far are to be multiplied by. */
void online_softmax(int32_t r0, int32_t keys, const AttentionScratch& s, float* factors) {
  const int32_t columns = whole_vectors(keys);
  for (int32_t g = 0; g < kStripRows; g += kWidth) {
    Vec rows[kWidth];
    for (int32_t r = 0; r < kWidth; ++r) {
      const float* row = s.scores + (g + r) * kScoreStride;
      rows[r] = load(row);
      for (int32_t c = kWidth; c < columns; c += kWidth) rows[r] = max(rows[r], load(row + c));
    }
    const Vec old_max = load(s.max + r0 + g);
    const Vec new_max = max(old_max, reduce_rows(rows, [](Vec a, Vec b) { return max(a, b); }));
    store(s.max + r0 + g, new_max);
    for (int32_t r = 0; r < kWidth; ++r) {
      float* row = s.scores + (g + r) * kScoreStride;
      rows[r] = Vec{};
      for (int32_t c = 0; c < columns; c += kWidth) {
        const Vec p = exp(load(row + c) - s.max[r0 + g + r]);
        store(row + c, p);
        rows[r] += p;
      }
    }
    const Vec factor = exp(old_max - new_max);
    store(factors + g, factor);
    store(s.total + r0 + g, load(s.total + r0 + g) * factor + reduce_rows(rows, [](Vec a, Vec b) { return a + b; }));
  }
}

/** out = factors out + probabilities v. */
void add_values(int32_t r0, int32_t keys, int32_t head_dim, const AttentionScratch& s, const float* factors) {
  for (int32_t p = 0; p < head_dim; p += kPanel) {
    const float* b = s.v + int64_t{p} * kKeyTile;
    for (int32_t r = 0; r < kStripRows; r += kAttentionRows) {
      gemm_tile<kAttentionRows, kScoreStride>(s.scores + r * kScoreStride, b, keys, [=](int i, int j, Vec sum) {
        float* to = s.out + int64_t{r0 + r + i} * s.out_stride + p + j * kWidth;
        store(to, sum + load(to) * factors[r + i]);
      });
    }
  }
}

/** Whether a row from r0 to end votes in any group. */
bool any_votes(const AttentionTask& t, int32_t r0, int32_t end) {
  uint8_t votes = 0;
  for (int32_t r = r0; r < end; ++r) votes |= t.maybe_votes[r];
  uint8_t wanted = 0;
  for (int32_t g = 0; g < t.groups; ++g) wanted |= t.group_masks[g];
  return (votes & wanted) != 0;
}

/** Adds a strip's probabilities of a key tile to the sums (groups, kKeyTile) of those of its rows that vote. */
void add_columns(const AttentionTask& t, int32_t r0, int32_t first, float* sums, const AttentionScratch& s) {
  const int32_t end = strip_end(t, r0);
  const int32_t keys = keys_in_sight(t, r0, first);
  if (keys <= 0 || !any_votes(t, r0, end)) return;
  score_strip(t, r0, first, keys, s);
  const int32_t columns = whole_vectors(keys);
  for (int32_t r = r0; r < end; ++r) {
    if (!any_votes(t, r, r + 1)) continue;
    float* row = s.scores + (r - r0) * kScoreStride;
    const float factor = 1.0f / s.total[r];
    for (int32_t c = 0; c < columns; c += kWidth) store(row + c, exp(load(row + c) - s.max[r]) * factor);
  }
  for (int32_t g = 0; g < t.groups; ++g) {
    for (int32_t c = 0; c < columns; c += kWidth) {
      float* to = sums + g * kKeyTile + c;
      Vec total = load(to);
      for (int32_t r = r0; r < end; ++r) {
        if (t.maybe_votes[r] & t.group_masks[g]) total += load(s.scores + (r - r0) * kScoreStride + c);
      }
      store(to, total);
    }
  }
}

/** The second pass: with each row's maximum and total known, its probabilities again, summed over each tile's voters. */
void column_sums(const AttentionTask& t, const AttentionScratch& s) {
  const int32_t columns = t.end_column - t.first_column;
  const int32_t seen = t.causal ? t.first + t.rows : t.length;
  const int64_t tile_sums = int64_t{t.groups} * columns;
  const int32_t tiles = (t.rows + kQueryTile - 1) / kQueryTile;
  __builtin_memset(t.sums, 0, static_cast<size_t>(tiles * tile_sums) * 4);
  if (!any_votes(t, 0, t.rows)) return;
  for (int32_t first = t.first_column / kKeyTile * kKeyTile; first < t.end_column && first < seen; first += kKeyTile) {
    pack_keys(t, first, s);
    for (int32_t tile = 0; tile < tiles; ++tile) {
      float sums[kMaxVoterGroups * kKeyTile] = {};
      for (int32_t r0 = tile * kQueryTile; r0 < t.rows && r0 < (tile + 1) * kQueryTile; r0 += kStripRows) {
        add_columns(t, r0, first, sums, s);
      }
      for (int32_t g = 0; g < t.groups; ++g) {
        for (int32_t c = 0; c < kKeyTile; ++c) {
          const int32_t column = first + c;
          if (column < t.first_column || column >= t.end_column) continue;
          t.sums[tile * tile_sums + int64_t{g} * columns + column - t.first_column] = sums[g * kKeyTile + c];
        }
      }
    }
  }
}

void attention_task(const AttentionTask& t, float* scratch) {
  const AttentionScratch s = lay_out(scratch, t.head_dim);
  pack_queries(t, s);
  for (int32_t r = 0; r < whole_strips(t.rows); ++r) {
    s.max[r] = -__builtin_inff();
    s.total[r] = 0;
  }
  __builtin_memset(s.out, 0, static_cast<size_t>(whole_strips(t.rows)) * static_cast<size_t>(s.out_stride) * 4);
  const int32_t seen = t.causal ? t.first + t.rows : t.length;
  for (int32_t first = 0; first < seen; first += kKeyTile) {
    pack_keys(t, first, s);
    pack_values(t, first, s);
    for (int32_t r0 = 0; r0 < t.rows; r0 += kStripRows) {
      const int32_t keys = keys_in_sight(t, r0, first);
      if (keys <= 0) continue;
      float factors[kStripRows];
      score_strip(t, r0, first, keys, s);
      online_softmax(r0, keys, s, factors);
      add_values(r0, keys, t.head_dim, s, factors);
    }
  }
  for (int32_t r = 0; r < t.rows; ++r) {
    divide_row(s.out + int64_t{r} * s.out_stride, s.total[r], t.head_dim, t.y + int64_t{t.first + r} * t.y_stride);
  }
  if (t.maybe_votes) column_sums(t, s);
}

}  // namespace
}  // namespace himap
