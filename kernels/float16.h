// The two 16-bit float types, and their conversions to and from float32 with round to nearest even.
//
// On a card one instruction each; on the host the same bits by integer arithmetic (the conformance suite compares
// them). A NaN becomes 0x7fff in either type, as the card's conversions make it.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/types.h"

namespace himap {

struct Bf16 {
  uint16_t bits;
};

struct F16 {
  uint16_t bits;
};

template <class T>
constexpr DType kDTypeOf = DType::kF32;
template <>
inline constexpr DType kDTypeOf<F16> = DType::kF16;
template <>
inline constexpr DType kDTypeOf<Bf16> = DType::kBF16;

HIMAP_HOST_DEVICE inline uint32_t float_bits(float value) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(value);
#else
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
#endif
}

HIMAP_HOST_DEVICE inline float bits_float(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
#endif
}

HIMAP_HOST_DEVICE inline float to_float(float value) { return value; }

HIMAP_HOST_DEVICE inline float to_float(Bf16 value) { return bits_float(uint32_t{value.bits} << 16); }

HIMAP_HOST_DEVICE inline float to_float(F16 value) {
#ifdef __CUDA_ARCH__
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
  return wide;
#else
  // Exponent moved by multiplication, which also makes subnormals normal; infinities and NaNs land at 2^16 and above.
  const float scaled = bits_float((value.bits & 0x7fffu) << 13) * bits_float(0x77800000u);  // 2^112
  const uint32_t special = scaled >= 65536.0f ? 0x7f800000u : 0u;
  return bits_float(float_bits(scaled) | special | (value.bits & 0x8000u) << 16);
#endif
}

/** Rounds to T: float, F16 or Bf16. */
template <class T>
HIMAP_HOST_DEVICE inline T round_to(float value);

template <>
HIMAP_HOST_DEVICE inline float round_to<float>(float value) {
  return value;
}

template <>
HIMAP_HOST_DEVICE inline Bf16 round_to<Bf16>(float value) {
#ifdef __CUDA_ARCH__
  Bf16 narrow;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(value));
  return narrow;
#else
  const uint32_t bits = float_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
#endif
}

template <>
HIMAP_HOST_DEVICE inline F16 round_to<F16>(float value) {
#ifdef __CUDA_ARCH__
  F16 narrow;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(value));
  return narrow;
#else
  const uint32_t bits = float_bits(value) & 0x7fffffffu;
  const uint32_t sign = float_bits(value) >> 16 & 0x8000u;
  if (bits > 0x7f800000u) return {0x7fff};
  if (bits >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // 65520 and above round to infinity
  if (bits < 0x38800000u) {
    // Subnormal: adding 0.5 leaves 2^-24 as the last place, so the addition rounds.
    return {static_cast<uint16_t>(sign | (float_bits(bits_float(bits) + 0.5f) - 0x3f000000u))};
  }
  return {static_cast<uint16_t>(sign | ((bits + 0xfffu + (bits >> 13 & 1u) - 0x38000000u) >> 13))};
#endif
}

/** Two rounded values in one word, `low` in the low half. */
template <class T>
HIMAP_HOST_DEVICE inline uint32_t pack(float low, float high) {
  return uint32_t{round_to<T>(low).bits} | uint32_t{round_to<T>(high).bits} << 16;
}

template <class T>
HIMAP_HOST_DEVICE inline float unpack_low(uint32_t pair) {
  return to_float(T{static_cast<uint16_t>(pair)});
}

template <class T>
HIMAP_HOST_DEVICE inline float unpack_high(uint32_t pair) {
  return to_float(T{static_cast<uint16_t>(pair >> 16)});
}

}  // namespace himap
