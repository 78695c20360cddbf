// Chooses the image tokens that survive a cut and writes the gather list of the compacted batch.
//
// Per sequence: score of image row i = [mean over heads | max over heads] of (sum over query tiles, ascending, of the
// group's column sums), times its weight; rank_i = #{j: s_j > s_i, or s_j = s_i and j < i}; image rows with
// rank < keep survive, every other row survives, all in their old order.
#pragma once

#include "kernels/types.h"

namespace himap {

struct SelectSequence {
  int32_t row0;         // first row in the batch before the cut
  int32_t rows;         // rows before the cut
  int32_t out_row0;     // first row in the batch after the cut
  int32_t keep;         // image rows that survive; all of them where nothing is cut
  int32_t alive;        // image rows before the cut
  int32_t column0;      // first column of the sums, within the sequence
  int32_t columns;      // columns of the sums
  int32_t query_tiles;  // tiles of the sums
  int32_t groups;       // groups of the sums
  int32_t group;        // the group that votes here
  int32_t heads_max;    // 0: mean over heads, 1: maximum
  int64_t sums;         // offset of the sequence's block in `sums`; -1: no sums (nothing is cut, or ranks are given)
  int64_t ranks;        // offset of `keep` ascending ranks in `maybe_ranks`; -1: none
  int64_t weights;      // offset of the sequence's weights in `maybe_weights`; -1: none
  int64_t scores;       // offset of `alive` scores in `maybe_scores`; -1: none
};

struct SelectParams {
  const SelectSequence* sequences;  // (n)
  int32_t n;
  int32_t max_alive;              // most image rows of a sequence before the cut
  int32_t heads;
  const float* maybe_sums;
  const int32_t* maybe_ranks;
  const float* maybe_weights;     // per original image token of the sequence
  const int32_t* image_index;     // (rows) original index of the image token; -1: not an image row
  float* maybe_scores;            // what was ranked
  int32_t* source;                // (rows after) row of the batch before
};

}  // namespace himap
