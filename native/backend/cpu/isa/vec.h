// A vector of kWidth floats in one of three instruction sets, chosen by HIMAP_ISA_AVX512, HIMAP_ISA_AVX2 or neither.
// Everything has internal linkage: see kernels.h. Products are fused with their sum only where `fma` says so.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(HIMAP_ISA_AVX512) || defined(HIMAP_ISA_AVX2)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "kernels/types.h"

#define HIMAP_INLINE inline __attribute__((always_inline))

namespace himap {
namespace {

#if defined(HIMAP_ISA_AVX512)
constexpr int kWidth = 16;
#elif defined(HIMAP_ISA_AVX2)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

typedef float Vec __attribute__((vector_size(kWidth * 4)));
typedef int32_t Int __attribute__((vector_size(kWidth * 4)));
typedef uint16_t Half __attribute__((vector_size(kWidth * 2)));

HIMAP_INLINE Vec splat(float value) { return value - Vec{}; }
HIMAP_INLINE Int splat_int(int32_t value) { return value - Int{}; }

HIMAP_INLINE Vec load(const float* from) {
  Vec value;
  __builtin_memcpy(&value, from, sizeof(value));
  return value;
}
HIMAP_INLINE void store(float* to, Vec value) { __builtin_memcpy(to, &value, sizeof(value)); }

HIMAP_INLINE Half load_half(const void* from) {
  Half value;
  __builtin_memcpy(&value, from, sizeof(value));
  return value;
}

/** The first n < kWidth lanes, the others zero. */
HIMAP_INLINE Vec load_first(const float* from, int64_t n) {
#if defined(HIMAP_ISA_AVX512)
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), from);
#else
  Vec value = {};
  __builtin_memcpy(&value, from, static_cast<size_t>(n) * 4);
  return value;
#endif
}
HIMAP_INLINE void store_first(float* to, Vec value, int64_t n) {
#if defined(HIMAP_ISA_AVX512)
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << n) - 1), value);
#else
  __builtin_memcpy(to, &value, static_cast<size_t>(n) * 4);
#endif
}

constexpr int kLineBytes = 64;  // of the caches of x86

/** Asks memory for the line at any address, mapped or not, as far as the second cache: the first has room for what is in use only. */
HIMAP_INLINE void prefetch(const char* at) { __builtin_prefetch(at, 0, 2); }

/** Keeps a loaded value in its register: compilers would rather load it again for each of its uses. */
HIMAP_INLINE Vec held(Vec value) {
#if defined(HIMAP_ISA_AVX512)
  __asm__("" : "+v"(value));
#elif defined(HIMAP_ISA_AVX2)
  __asm__("" : "+x"(value));
#endif
  return value;
}

/** a b + c, with one rounding where the instruction set has it. */
HIMAP_INLINE Vec fma(Vec a, Vec b, Vec c) {
#if defined(HIMAP_ISA_AVX512)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(HIMAP_ISA_AVX2)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
  return static_cast<Vec>(vfmaq_f32(static_cast<float32x4_t>(c), static_cast<float32x4_t>(a), static_cast<float32x4_t>(b)));
#else
  return a * b + c;
#endif
}

/** *a b + c, with `a` read for this product alone: an instruction less than to splat it first, a load more where it is used twice. */
HIMAP_INLINE Vec fma_from(const float* a, Vec b, Vec c) {
#if defined(HIMAP_ISA_AVX512)
  __asm__("vfmadd231ps %1%{1to16%}, %2, %0" : "+v"(c) : "m"(*a), "v"(b));
  return c;
#else
  return fma(splat(*a), b, c);
#endif
}

/** b where either is NaN. */
HIMAP_INLINE Vec max(Vec a, Vec b) {
#if defined(HIMAP_ISA_AVX512)
  return _mm512_max_ps(a, b);
#elif defined(HIMAP_ISA_AVX2)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

HIMAP_INLINE Vec min(Vec a, Vec b) {
#if defined(HIMAP_ISA_AVX512)
  return _mm512_min_ps(a, b);
#elif defined(HIMAP_ISA_AVX2)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}

HIMAP_INLINE Int lanes() {
#if defined(HIMAP_ISA_AVX512)
  return Int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif defined(HIMAP_ISA_AVX2)
  return Int{0, 1, 2, 3, 4, 5, 6, 7};
#else
  return Int{0, 1, 2, 3};
#endif
}

/** Lane i of the result: lane index[i] of a and b laid end to end. The index is a constant to the compiler. */
HIMAP_INLINE Vec shuffle(Vec a, Vec b, Int index) {
#if defined(__clang__)
  Vec result = {};
#pragma unroll
  for (int i = 0; i < kWidth; ++i) result[i] = index[i] < kWidth ? a[index[i]] : b[index[i] - kWidth];
  return result;
#else
  return __builtin_shuffle(a, b, index);
#endif
}

/** Sum of the lanes as a tree: halves, quarters, ... */
HIMAP_INLINE float sum_lanes(Vec value) {
  for (int step = kWidth / 2; step > 0; step /= 2) value += shuffle(value, value, lanes() ^ step);
  return value[0];
}

// Of two rows, blocks of `step` lanes taken by turns: the first ones of each pair of blocks, and the second ones.
HIMAP_INLINE Int first_blocks(int step) { return (lanes() & step) != 0 ? lanes() - step + kWidth : lanes(); }
HIMAP_INLINE Int second_blocks(int step) { return (lanes() & step) != 0 ? lanes() + kWidth : lanes() + step; }

/** Turns kWidth rows of kWidth lanes into columns. */
HIMAP_INLINE void transpose(Vec* rows) {
#pragma GCC unroll 4
  for (int step = 1; step < kWidth; step *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) {
      if (i & step) continue;
      const Vec a = rows[i];
      const Vec b = rows[i + step];
      rows[i] = shuffle(a, b, first_blocks(step));
      rows[i + step] = shuffle(a, b, second_blocks(step));
    }
  }
}

/** Lane r of the result: the lanes of row r of kWidth joined as a tree, halves, quarters, ...; `rows` is used up. */
template <class Join>
HIMAP_INLINE Vec reduce_rows(Vec* rows, const Join& join) {
#pragma GCC unroll 4
  for (int step = kWidth / 2; step > 0; step /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < step; ++i) {
      rows[i] = join(shuffle(rows[i], rows[i + step], first_blocks(step)), shuffle(rows[i], rows[i + step], second_blocks(step)));
    }
  }
  return rows[0];
}

HIMAP_INLINE Vec from_f16(Half bits) {
#if defined(HIMAP_ISA_AVX512)
  return _mm512_cvtph_ps(reinterpret_cast<__m256i>(bits));
#elif defined(HIMAP_ISA_AVX2)
  return _mm256_cvtph_ps(reinterpret_cast<__m128i>(bits));
#elif defined(__aarch64__)
  return static_cast<Vec>(vcvt_f32_f16(reinterpret_cast<float16x4_t>(bits)));
#else
  const Int wide = __builtin_convertvector(bits, Int);
  const Int magnitude = (wide & 0x7fff) << 13;
  const Int normal = magnitude + ((127 - 15) << 23);
  const Int special = magnitude + ((255 - 31) << 23);
  // Below 2^-14 the bits are a whole number of 2^-24: let a subtraction normalise them.
  const Int tiny = reinterpret_cast<Int>(reinterpret_cast<Vec>(magnitude + (113 << 23)) -
                                         reinterpret_cast<Vec>(splat_int(113 << 23)));
  const Int value = magnitude >= (0x7c00 << 13) ? special : magnitude < (0x0400 << 13) ? tiny : normal;
  return reinterpret_cast<Vec>(value | ((wide & 0x8000) << 16));
#endif
}

HIMAP_INLINE Half to_f16(Vec value) {
#if defined(HIMAP_ISA_AVX512)
  return reinterpret_cast<Half>(_mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(HIMAP_ISA_AVX2)
  return reinterpret_cast<Half>(_mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__aarch64__)
  return reinterpret_cast<Half>(vcvt_f16_f32(static_cast<float32x4_t>(value)));
#else
  const Int bits = reinterpret_cast<Int>(value);
  const Int magnitude = bits & 0x7fffffff;
  const Int rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  const Int normal = (rounded - ((127 - 15) << 23)) >> 13;
  // Below 2^-14: adding 0.5 leaves the value in units of 2^-24, rounded to even, in the low bits.
  const Int tiny = reinterpret_cast<Int>(reinterpret_cast<Vec>(magnitude) + splat(0.5f)) - splat_int(126 << 23);
  const Int special = magnitude > (255 << 23) ? splat_int(0x7e00) : splat_int(0x7c00);
  const Int result = rounded >= (143 << 23) ? special : magnitude < (113 << 23) ? tiny : normal;
  return __builtin_convertvector(result | ((bits >> 16) & 0x8000), Half);
#endif
}

HIMAP_INLINE Vec from_bf16(Half bits) { return reinterpret_cast<Vec>(__builtin_convertvector(bits, Int) << 16); }

HIMAP_INLINE Half to_bf16(Vec value) {
  const Int bits = reinterpret_cast<Int>(value);
  const Int rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Int quiet = (bits >> 16) | 0x40;
  return __builtin_convertvector((value == value ? rounded : quiet) & 0xffff, Half);
}

// How a stored type becomes float32. A loader's `at` takes kWidth elements, `first_at` fewer, the rest zero.
struct LoadF32 {
  static constexpr int kBytes = 4;
  static HIMAP_INLINE Vec at(const char* from) {
    Vec value;
    __builtin_memcpy(&value, from, sizeof(value));
    return value;
  }
  static HIMAP_INLINE Vec first_at(const char* from, int64_t n) {
    Vec value = {};
    __builtin_memcpy(&value, from, static_cast<size_t>(n) * 4);
    return value;
  }
};

HIMAP_INLINE Half load_half_first(const char* from, int64_t n) {
  Half value = {};
  __builtin_memcpy(&value, from, static_cast<size_t>(n) * 2);
  return value;
}

struct LoadF16 {
  static constexpr int kBytes = 2;
  static HIMAP_INLINE Vec at(const char* from) { return from_f16(load_half(from)); }
  static HIMAP_INLINE Vec first_at(const char* from, int64_t n) { return from_f16(load_half_first(from, n)); }
};

struct LoadBF16 {
  static constexpr int kBytes = 2;
  static HIMAP_INLINE Vec at(const char* from) { return from_bf16(load_half(from)); }
  static HIMAP_INLINE Vec first_at(const char* from, int64_t n) { return from_bf16(load_half_first(from, n)); }
};

/** Calls fn with the loader of a type: the one place where a run-time type becomes code. */
template <class Fn>
HIMAP_INLINE void with_loader(DType type, const Fn& fn) {
  if (type == DType::kF16) return fn(LoadF16{});
  if (type == DType::kBF16) return fn(LoadBF16{});
  fn(LoadF32{});
}

}  // namespace
}  // namespace himap
