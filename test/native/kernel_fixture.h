// What the tests of single kernels share: random values of any type, and the bounds that results must keep.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <memory>
#include <vector>

#include "kernels/float16.h"
#include "test/native/check.h"
#include "test/native/device_buffer.h"

namespace himap::test {

template <class T>
std::vector<T> random_values(Random& random, int64_t n, float scale) {
  std::vector<T> values(static_cast<size_t>(n));
  for (T& value : values) value = round_to<T>(random.uniform() * scale);
  return values;
}

template <class T>
std::vector<double> widened(const std::vector<T>& values) {
  std::vector<double> wide;
  for (const T& value : values) wide.push_back(static_cast<double>(to_float(value)));
  return wide;
}

inline double worst_error(const std::vector<double>& got, const std::vector<double>& right) {
  double worst = 0;
  for (size_t i = 0; i < right.size(); ++i) {
    const double error = std::abs(got[i] - right[i]);
    worst = error <= worst ? worst : error;  // a NaN stays
  }
  return worst;
}

/** No further from what is right than twice what a naive implementation in the same precision is. */
inline void check_error(const std::string& what, const std::vector<double>& got, const std::vector<double>& right, const std::vector<double>& naive) {
  const double error = worst_error(got, right), bound = 2 * worst_error(naive, right) + 1e-7;
  if (error <= bound) return;
  char text[200];
  std::snprintf(text, sizeof text, "%s: worst error %.3g, twice the naive %.3g", what.c_str(), error, bound);
  report(__FILE__, __LINE__, text);
}

/**
 * The most by which a float32 sum of `terms` exact products, added by tensor cores, may be off. `size`: the sum of their absolute
 * values. A card may drop, not round, the bits below the largest term of an addition, so a naive loop's error says too little.
 */
inline double float_sum_bound(int64_t terms, double size) { return static_cast<double>(terms) * 0x1p-23 * size; }

/** ||got - right|| / ||right||. */
inline double relative_l2(const std::vector<double>& got, const std::vector<double>& right) {
  double difference = 0, own = 0;
  for (size_t i = 0; i < right.size(); ++i) {
    difference += (got[i] - right[i]) * (got[i] - right[i]);
    own += right[i] * right[i];
  }
  return own == 0 ? std::sqrt(difference) : std::sqrt(difference / own);
}

}  // namespace himap::test
