// Compiled with -ffp-contract=off: a fused multiply-add would round differently from JavaScript.
#include "native/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace himap {
namespace {

/** lib/sampling/exp.ts. */
double exp_non_positive(double x) {
  constexpr double kLog2e = 1.4426950408889634;
  constexpr double kLn2High = 0.6931471803691238;
  constexpr double kLn2Low = 1.9082149292705877e-10;
  constexpr int kTerms = 14;
  if (!(x > -708)) return 0;
  const double exponent = std::floor(x * kLog2e + 0.5);
  const double rest = x - exponent * kLn2High - exponent * kLn2Low;
  double sum = 1;
  for (int n = kTerms; n >= 1; --n) sum = 1 + (sum * rest) / n;
  const uint64_t bits = static_cast<uint64_t>(static_cast<int64_t>(exponent) + 1023) << 52;
  double scale;
  std::memcpy(&scale, &bits, sizeof(scale));
  return sum * scale;
}

}  // namespace

std::array<uint32_t, 4> philox(const uint32_t key[2], std::array<uint32_t, 4> counter) {
  uint32_t k0 = key[0];
  uint32_t k1 = key[1];
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ k0, static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ k1, static_cast<uint32_t>(product0)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return counter;
}

size_t choose_token(const Candidates& candidates, const StepSampling& sampling, int64_t position) {
  // Nothing can be drawn where the best logit is infinite: every token is banned, or a logit overflowed.
  if (sampling.temperature == 0 || !std::isfinite(candidates.logits[0])) return 0;

  size_t count = candidates.ids.size();
  if (sampling.top_k > 0) count = std::min(count, static_cast<size_t>(sampling.top_k));
  const double best = candidates.logits[0];
  std::vector<double> weights(count);
  double total = 0;
  for (size_t i = 0; i < count; ++i) {
    weights[i] = exp_non_positive((static_cast<double>(candidates.logits[i]) - best) / sampling.temperature);
    total += weights[i];
  }

  if (sampling.top_p < 1) {
    const double limit = sampling.top_p * total;
    double sum = 0;
    size_t kept = 0;
    while (kept < count) {
      sum += weights[kept++];
      if (sum >= limit) break;
    }
    count = kept;
    total = sum;
  }

  if (sampling.min_p > 0) {
    double sum = 0;
    size_t kept = 0;
    while (kept < count && weights[kept] >= sampling.min_p) sum += weights[kept++];
    count = kept;
    total = sum;
  }

  const auto words = philox(sampling.seed, {static_cast<uint32_t>(position), sampling.sample, 0, 0});
  const double uniform = ((words[0] >> 5) * 67108864.0 + (words[1] >> 6)) / 9007199254740992.0;
  const double draw = uniform * total;
  double sum = 0;
  for (size_t i = 0; i < count; ++i) {
    sum += weights[i];
    if (draw < sum) return i;
  }
  return count - 1;
}

}  // namespace himap
