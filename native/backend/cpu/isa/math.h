// exp and what activations make of it.
#pragma once

#include "native/backend/cpu/isa/vec.h"

namespace himap {
namespace {

/**
 * exp(x) = 2^n exp(r), |r| <= ln 2 / 2, exp(r) by its series; relative error below 1.5e-7, subnormal results included.
 * 0 at -infinity, infinity where it overflows, NaN of NaN.
 */
HIMAP_INLINE Vec exp(Vec x) {
  x = min(splat(89.0f), max(splat(-104.0f), x));  // NaN, on the right, stays
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
#if defined(HIMAP_ISA_AVX512)
  return _mm512_scalef_ps(p, n);
#else
  // 2^n in two factors, so that neither leaves the range of normal numbers.
  const Int whole = reinterpret_cast<Int>(shifted) - reinterpret_cast<Int>(splat(kRound));
  const Int half = whole >> 1;
  const Vec a = reinterpret_cast<Vec>((half + 127) << 23);
  const Vec b = reinterpret_cast<Vec>((whole - half + 127) << 23);
  return p * a * b;
#endif
}

HIMAP_INLINE Vec sigmoid(Vec x) { return 1.0f / (1.0f + exp(-x)); }

/**
 * x/2 (1 + erf(x / sqrt 2)), from erfc(z) = exp(-z^2) q(1 / (1 + z/2)) of the positive side, so that nothing cancels on
 * the negative one. q is our own least-squares fit of exp(z^2) erfc(z) on [0, 10]; its relative error is below 5e-8.
 */
HIMAP_INLINE Vec gelu(Vec x) {
  const Vec z = max(x, -x) * 0.707106781f;
  const Vec u = 1.0f / fma(z, splat(0.5f), splat(1.0f));
  Vec q = splat(-0.0590689667f);
  q = fma(q, u, splat(0.284574986f));
  q = fma(q, u, splat(-0.487199962f));
  q = fma(q, u, splat(0.278067201f));
  q = fma(q, u, splat(-0.0266256966f));
  q = fma(q, u, splat(0.202686876f));
  q = fma(q, u, splat(0.243103758f));
  q = fma(q, u, splat(0.282375306f));
  q = fma(q, u, splat(0.282086432f));
  const Vec tail = q * u * exp(-z * z);  // erfc(z)
  return 0.5f * x * (x < 0.0f ? tail : 2.0f - tail);
}

}  // namespace
}  // namespace himap
