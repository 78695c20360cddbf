// Adjusts each row's logits in place, then takes its best tokens and the log-sum-exp of all. A row lists a token once at most.
// Adjustment of a listed token: x = x < 0 ? x * multiply : x / multiply, then x += add. Tokens outside a row's mask
// become -infinity. Order: descending logit, ties by ascending id. A NaN among the logits counts as -infinity there, and the
// row's log-sum-exp is NaN, so that the engine notices.
#pragma once

#include "kernels/types.h"

namespace himap {

constexpr int32_t kCandidates = 64;

struct CandidatesParams {
  float* logits;                  // (rows, vocabulary)
  int64_t rows;
  int32_t vocabulary;
  const int32_t* adjust_start;    // (rows + 1) first adjustment of each row
  const int32_t* adjust_tokens;
  const float* adjust_add;
  const float* adjust_multiply;
  const uint32_t* const* masks;   // (rows) bit t of word t / 32: token t is allowed; a null row allows all
  int32_t* ids;                   // (rows, kCandidates), -1 beyond the vocabulary
  float* best;                    // (rows, kCandidates)
  float* log_sum_exp;             // (rows)
};

}  // namespace himap
