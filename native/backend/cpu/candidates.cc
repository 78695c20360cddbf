// Adjusted logits, the best of each row, and the log-sum-exp of all.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "native/backend/cpu/device.h"

namespace himap {
namespace {

constexpr const char* kWhere = "candidates";
constexpr float kLowest = -std::numeric_limits<float>::infinity();

/** Whether every logit was a number; those that are not become -infinity. */
bool adjust(const CandidatesParams& p, int64_t row, float* logits) {
  for (int32_t i = p.adjust_start[row]; i < p.adjust_start[row + 1]; ++i) {
    float& x = logits[p.adjust_tokens[i]];
    x = x < 0 ? x * p.adjust_multiply[i] : x / p.adjust_multiply[i];
    x += p.adjust_add[i];
  }
  if (const uint32_t* mask = p.masks[row]) {
    for (int32_t t = 0; t < p.vocabulary; ++t) {
      if (!(mask[t / 32] >> (t % 32) & 1)) logits[t] = kLowest;
    }
  }
  bool numbers = true;
  for (int32_t t = 0; t < p.vocabulary; ++t) {
    if (!std::isnan(logits[t])) continue;
    logits[t] = kLowest;
    numbers = false;
  }
  return numbers;
}

struct Candidate {
  float logit;
  int32_t id;
};

bool better(const Candidate& a, const Candidate& b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

void best(const float* logits, int32_t vocabulary, int32_t* ids, float* values) {
  // A heap with the worst of the best on top: most tokens fail one comparison. Ids ascend, so an equal comes later.
  Candidate heap[kCandidates];
  const int32_t n = std::min(vocabulary, kCandidates);
  for (int32_t t = 0; t < n; ++t) heap[t] = {logits[t], t};
  std::make_heap(heap, heap + n, better);
  for (int32_t t = n; t < vocabulary; ++t) {
    if (!(logits[t] > heap[0].logit)) continue;
    std::pop_heap(heap, heap + n, better);
    heap[n - 1] = {logits[t], t};
    std::push_heap(heap, heap + n, better);
  }
  std::sort_heap(heap, heap + n, better);
  for (int32_t i = 0; i < kCandidates; ++i) {
    ids[i] = i < n ? heap[i].id : -1;
    values[i] = i < n ? heap[i].logit : kLowest;
  }
}

}  // namespace

void candidates(Device& device, const CandidatesParams& params) {
  check(params.rows >= 0, kWhere, "rows must be at least 0", params.rows);
  check(params.vocabulary > 0, kWhere, "vocabulary must be positive", params.vocabulary);
  if (params.rows == 0) return;
  check_pointer(params.logits, kWhere, "logits");
  check_pointer(params.adjust_start, kWhere, "adjust_start");
  check_pointer(params.masks, kWhere, "masks");
  check_pointer(params.ids, kWhere, "ids");
  check_pointer(params.best, kWhere, "best");
  check_pointer(params.log_sum_exp, kWhere, "log_sum_exp");
  for (int64_t r = 0; r < params.rows; ++r) {
    const int32_t start = params.adjust_start[r];
    check(start >= 0 && params.adjust_start[r + 1] >= start, kWhere, "adjust_start must ascend from 0 or more", start);
    for (int32_t i = start; i < params.adjust_start[r + 1]; ++i) {
      const int32_t token = params.adjust_tokens[i];
      check(token >= 0 && token < params.vocabulary, kWhere,
            ("adjusted tokens must be 0 to " + std::to_string(params.vocabulary - 1)).c_str(), token);
    }
  }
  device.pool.parallel_for(params.rows, 1, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      float* logits = params.logits + r * params.vocabulary;
      const bool numbers = adjust(params, r, logits);
      float* values = params.best + r * kCandidates;
      best(logits, params.vocabulary, params.ids + r * kCandidates, values);
      // An infinite maximum is the answer itself; subtracting it would make NaN.
      params.log_sum_exp[r] =
          std::isinf(values[0]) ? values[0]
                                : values[0] + std::log(device.kernels.exp_sum(logits, params.vocabulary, values[0]));
      if (!numbers) params.log_sum_exp[r] = std::numeric_limits<float>::quiet_NaN();
    }
  });
}

}  // namespace himap
