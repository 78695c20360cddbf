// Adjusted logits, the best of each row and the log-sum-exp of all: one block per row.
//
// The threshold of the best is found by its bits, eight at a time from the top (a histogram of those logits that agree so
// far), then everything above it and the first of its equals are ranked by counting.
// Moves: the row's logits seven times, from L2 after the first; kCandidates pairs out. Histograms are integers: no order.
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
  int32_t agreeing;    // how many do
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

/** `use(t, logit)` for the thread's logits in ascending order. Some are under way at once: one at a time, L2's latency is all there is. */
template <class Use>
HIMAP_DEVICE void each_logit(const float* logits, int32_t vocabulary, const Use& use) {
  constexpr int32_t kAhead = 8;
  for (int32_t base = thread_id(); base < vocabulary; base += kAhead * kCandidatesThreads) {
    float ahead[kAhead];
    HIMAP_UNROLL
    for (int32_t i = 0; i < kAhead; ++i) {
      const int32_t t = base + i * kCandidatesThreads;
      ahead[i] = t < vocabulary ? logits[t] : 0.0f;
    }
    HIMAP_UNROLL
    for (int32_t i = 0; i < kAhead; ++i) {
      const int32_t t = base + i * kCandidatesThreads;
      if (t < vocabulary) use(t, ahead[i]);
    }
  }
}

/** Adjustments, mask, NaN to -infinity, in place; how many logits were no numbers. */
HIMAP_DEVICE int32_t candidates_adjust(const CandidatesParams& p, int32_t row, float* logits, CandidatesShared& shared) {
  for (int32_t i = p.adjust_start[row] + thread_id(); i < p.adjust_start[row + 1]; i += kCandidatesThreads) {
    float& x = logits[p.adjust_tokens[i]];
    x = (x < 0 ? x * p.adjust_multiply[i] : x / p.adjust_multiply[i]) + p.adjust_add[i];
  }
  sync_threads();
  const uint32_t* mask = p.masks[row];
  float strange = 0;
  each_logit(logits, p.vocabulary, [&](int32_t t, float logit) {
    const bool allowed = !mask || (mask[t / 32] >> (t % 32) & 1u);
    const bool number = !is_nan(logit);
    if (allowed && !number) strange = 1;
    if (!allowed || !number) logits[t] = -INFINITY;
  });
  return block_max(strange, shared.block) > 0;  // its barriers also make the logits everyone's
}

/** Of the histogram's digits the one at which, counted from the highest, `wanted` is reached. One warp. */
HIMAP_DEVICE void candidates_digit(int32_t shift, CandidatesShared& shared) {
  constexpr int32_t kOwn = kDigits / 32;
  const int32_t lane = lane_id(), top = kDigits - 1 - lane * kOwn, wanted = shared.wanted;
  int32_t own = 0;
  HIMAP_UNROLL
  for (int32_t i = 0; i < kOwn; ++i) own += shared.histogram[top - i];
  int32_t before = own;  // of the lanes up to this one, then without its own
  for (int32_t distance = 1; distance < 32; distance *= 2) {
    const int32_t other = shuffle_up(before, distance);
    if (lane >= distance) before += other;
  }
  before -= own;
  sync_warp();  // all have read what one of them changes
  if (before >= wanted || before + own < wanted) return;
  int32_t digit = top;
  while (before + shared.histogram[digit] < wanted) before += shared.histogram[digit--];
  shared.prefix |= static_cast<uint32_t>(digit) << shift;
  shared.wanted = wanted - before;
  shared.agreeing = shared.histogram[digit];
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
    each_logit(logits, vocabulary, [&](int32_t, float logit) {
      const uint32_t bits = ordered_bits(logit);
      if (shift == 24 || bits >> (shift + 8) == prefix >> (shift + 8)) atomic_add(&shared.histogram[bits >> shift & (kDigits - 1)], 1);
    });
    sync_threads();
    if (warp_id() == 0) candidates_digit(shift, shared);
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
  const bool all_equals = equals == shared.agreeing;  // as a rule: there is one
  each_logit(logits, p.vocabulary, [&](int32_t t, float logit) {
    const uint32_t bits = ordered_bits(logit);
    if (bits < threshold || (bits == threshold && !all_equals)) return;
    const int32_t at = atomic_add(&shared.found, 1);  // in any order: they are ranked below
    shared.id[at] = t;
    shared.value[at] = logit;
  });
  if (!all_equals) {  // the first of them
    int32_t taken = 0;
    for (int32_t base = 0; taken < equals; base += kCandidatesThreads) {
      const int32_t t = base + thread;
      const bool equal = t < p.vocabulary && ordered_bits(logits[t]) == threshold;
      int32_t all;
      const int32_t at = above + taken + block_rank(equal, shared.block, all);
      if (equal && at < n) {
        shared.id[at] = t;
        shared.value[at] = logits[t];
      }
      taken += all;
    }
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
  each_logit(logits, p.vocabulary, [&](int32_t, float logit) { sum += expf(logit - high); });
  sum = block_sum(sum, shared.block);
  // An infinite maximum is the answer itself; subtracting it would make NaN.
  if (thread == 0) p.log_sum_exp[row] = strange ? NAN : high == INFINITY || high == -INFINITY ? high : high + logf(sum);
}

}  // namespace himap::device
