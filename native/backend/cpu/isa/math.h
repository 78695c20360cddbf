// exp, sigmoid and erf of a vector.
#pragma once

#include "native/backend/cpu/isa/vec.h"

namespace himap {
namespace {

/**
 * exp(x) = 2^n exp(r), |r| <= ln 2 / 2, exp(r) by its series; relative error below 1.5e-7, subnormal results included.
 * 0 at -infinity, infinity where it overflows, NaN of NaN.
 */
HIMAP_INLINE Vec exp(Vec x) {
  x = x < -104.0f ? splat(-104.0f) : x;
  x = x > 89.0f ? splat(89.0f) : x;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const Vec shifted = fma(x, splat(1.44269504f), splat(kRound));
  const Vec n = shifted - kRound;
  Vec r = fma(n, splat(-0.693359375f), x);  // ln 2 in two parts; the first is short, so that its product is exact
  r = fma(n, splat(2.12194440e-4f), r);
  Vec p = splat(1.0f / 5040);
  p = fma(p, r, splat(1.0f / 720));
  p = fma(p, r, splat(1.0f / 120));
  p = fma(p, r, splat(1.0f / 24));
  p = fma(p, r, splat(1.0f / 6));
  p = fma(p, r, splat(0.5f));
  p = fma(p, r, splat(1.0f));
  p = fma(p, r, splat(1.0f));
  // 2^n in two factors, so that neither leaves the range of normal numbers.
  const Int whole = reinterpret_cast<Int>(shifted) - reinterpret_cast<Int>(splat(kRound));
  const Int half = whole >> 1;
  const Vec a = reinterpret_cast<Vec>((half + 127) << 23);
  const Vec b = reinterpret_cast<Vec>((whole - half + 127) << 23);
  return p * a * b;
}

HIMAP_INLINE Vec sigmoid(Vec x) { return 1.0f / (1.0f + exp(-x)); }

/** libm's, lane by lane: the projector alone needs it. */
HIMAP_INLINE Vec erf(Vec x) {
  Vec result = {};
  for (int i = 0; i < kWidth; ++i) result[i] = __builtin_erff(x[i]);
  return result;
}

}  // namespace
}  // namespace himap
