// Attention of whole prompts: y = softmax(scale q k^T) v per sequence and head, causal or full, keys and values taken
// from the packed rows. The map is never stored: online softmax over key tiles.
//
// Column sums are a second pass of the same kernel: with each row's log-sum-exp known, the voters' probabilities over
// the wanted columns are recomputed and summed down each column, in float32 and in a fixed order:
//   sums[head][q tile][group][column] = sum over the tile's rows r with (votes[r] & group_masks[group]) of p(r, column).
// Summing over tiles in ascending order is the reader's part (select, or the host).
#pragma once

#include "kernels/types.h"

namespace himap {

/** Rows of one query tile, the grain of the column sums' partial results. */
constexpr int32_t kQueryTile = 64;
constexpr int32_t kMaxVoterGroups = 5;

struct ColumnSums {
  const uint8_t* votes;  // (rows) kVotes... bits
  uint8_t group_masks[kMaxVoterGroups];
  int32_t groups;
  const int32_t* columns;  // (sequences, 2) first column and the one after the last, within the sequence; equal: none
  const int64_t* offsets;  // (sequences) where a sequence's block of `sums` begins, in floats
  float* sums;             // per sequence (heads, query tiles, groups, columns)
};

struct AttentionPrefillParams {
  const void* qkv;          // (rows, (heads + 2 kv_heads) * head_dim) activations: all q, all k, all v
  void* y;                  // (rows, heads * head_dim) activations
  const int32_t* cu_rows;   // (sequences + 1) first row of each sequence
  int32_t sequences;
  int32_t max_rows;         // longest sequence
  int32_t heads;
  int32_t kv_heads;
  int32_t head_dim;         // a multiple of 8
  float scale;
  bool causal;
  const ColumnSums* maybe_column_sums;
};

}  // namespace himap
