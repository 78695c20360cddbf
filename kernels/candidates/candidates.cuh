// Adjusted logits, the best of each row and the log-sum-exp of all: one block per row.
//
// The threshold of the best is found by its bits, eight at a time from the top (a histogram of those logits that agree so
// far), then everything above it and the first of its equals are ranked by counting.
// Moves: the row's logits six times, from L2 after the first; kCandidates pairs out. Histograms are integers: no order.
// The sum of exponentials is taken per thread, then over the block, in fixed order.
#pragma once

#include "kernels/block.cuh"
#include "kernels/candidates/candidates.h"

namespace himap::device {

constexpr int32_t kCandidatesThreads = 512;
constexpr int32_t kDigits = 256;

struct CandidatesShared {
  BlockShared block;
  int32_t histogram[kDigits];
  uint32_t prefix;     // the threshold's digits so far
  int32_t wanted;      // of those that agree with them
  int32_t found;
  int32_t id[kCandidates];
  float value[kCandidates];
};

/** Ascends with the value; both zeros are one. */
HIMAP_DEVICE uint32_t ordered_bits(float value) {
  const uint32_t bits = float_bits(value == 0 ? 0.0f : value);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

HIMAP_DEVICE bool is_nan(float value) { return value != value; }

/** Adjustments, mask, NaN to -infinity, in place; how many logits were no numbers. */
HIMAP_DEVICE int32_t candidates_adjust(const CandidatesParams& p, int32_t row, float* logits, CandidatesShared& shared) {
  for (int32_t i = p.adjust_start[row] + thread_id(); i < p.adjust_start[row + 1]; i += kCandidatesThreads) {
    float& x = logits[p.adjust_tokens[i]];
    x = (x < 0 ? x * p.adjust_multiply[i] : x / p.adjust_multiply[i]) + p.adjust_add[i];
  }
  sync_threads();
  const uint32_t* mask = p.masks[row];
  float strange = 0;
  for (int32_t t = thread_id(); t < p.vocabulary; t += kCandidatesThreads) {
    const bool allowed = !mask || (mask[t / 32] >> (t % 32) & 1u);
    const bool number = !is_nan(logits[t]);
    if (allowed && !number) strange = 1;
    if (!allowed || !number) logits[t] = -INFINITY;
  }
  return block_max(strange, shared.block) > 0;  // its barriers also make the logits everyone's
}

/** Leaves the bits of the n-th best logit in shared.prefix, and how many of its equals are among the n in shared.wanted. */
HIMAP_DEVICE void candidates_threshold(const float* logits, int32_t vocabulary, int32_t n, CandidatesShared& shared) {
  if (thread_id() == 0) {
    shared.prefix = 0;
    shared.wanted = n;
  }
  for (int32_t shift = 24; shift >= 0; shift -= 8) {
    for (int32_t i = thread_id(); i < kDigits; i += kCandidatesThreads) shared.histogram[i] = 0;
    sync_threads();
    const uint32_t prefix = shared.prefix;
    for (int32_t t = thread_id(); t < vocabulary; t += kCandidatesThreads) {
      const uint32_t bits = ordered_bits(logits[t]);
      if (shift == 24 || bits >> (shift + 8) == prefix >> (shift + 8)) atomic_add(&shared.histogram[bits >> shift & (kDigits - 1)], 1);
    }
    sync_threads();
    if (thread_id() == 0) {
      int32_t digit = kDigits - 1;
      while (shared.histogram[digit] < shared.wanted) shared.wanted -= shared.histogram[digit--];
      shared.prefix = prefix | static_cast<uint32_t>(digit) << shift;
    }
    sync_threads();
  }
}

HIMAP_KERNEL(kCandidatesThreads, 1) candidates_kernel(HIMAP_PARAMS(CandidatesParams) p) {
  auto& shared = shared_struct<CandidatesShared>();
  const int32_t row = block_x(), thread = thread_id();
  float* logits = p.logits + int64_t{row} * p.vocabulary;
  const int32_t n = p.vocabulary < kCandidates ? p.vocabulary : kCandidates;
  const bool strange = candidates_adjust(p, row, logits, shared) > 0;
  candidates_threshold(logits, p.vocabulary, n, shared);

  if (thread == 0) shared.found = 0;
  sync_threads();
  const uint32_t threshold = shared.prefix;
  const int32_t equals = shared.wanted, above = n - equals;
  int32_t equal = 0;  // equals before this stretch
  for (int32_t base = 0; base < p.vocabulary; base += kCandidatesThreads) {
    const int32_t t = base + thread;
    const uint32_t bits = t < p.vocabulary ? ordered_bits(logits[t]) : 0;
    int32_t at = -1;
    if (t < p.vocabulary && bits > threshold) at = atomic_add(&shared.found, 1);  // in any order: they are ranked below
    if (equal < equals) {  // the same for every thread
      int32_t all;
      const int32_t before = block_rank(t < p.vocabulary && bits == threshold, shared.block, all);
      if (t < p.vocabulary && bits == threshold && equal + before < equals) at = above + equal + before;
      equal += all;
    }
    if (at < 0) continue;
    shared.id[at] = t;
    shared.value[at] = logits[t];
  }
  sync_threads();
  if (thread < kCandidates) {
    int32_t rank = thread;
    if (thread < n) {
      rank = 0;
      for (int32_t j = 0; j < n; ++j) {
        const float other = shared.value[j], own = shared.value[thread];
        rank += other > own || (other == own && shared.id[j] < shared.id[thread]);
      }
    }
    p.ids[int64_t{row} * kCandidates + rank] = thread < n ? shared.id[thread] : -1;
    p.best[int64_t{row} * kCandidates + rank] = thread < n ? shared.value[thread] : -INFINITY;
  }

  float high = -INFINITY;
  for (int32_t j = 0; j < n; ++j) high = fmaxf(high, shared.value[j]);
  float sum = 0;
  for (int32_t t = thread; t < p.vocabulary; t += kCandidatesThreads) sum += expf(logits[t] - high);
  sum = block_sum(sum, shared.block);
  // An infinite maximum is the answer itself; subtracting it would make NaN.
  if (thread == 0) p.log_sum_exp[row] = strange ? NAN : high == INFINITY || high == -INFINITY ? high : high + logf(sum);
}

}  // namespace himap::device
