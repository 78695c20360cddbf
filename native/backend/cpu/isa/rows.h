// Operations on one row: conversions, norms, rotation, the parts of a softmax over a whole row.
#pragma once

#include "native/backend/cpu/isa/math.h"

namespace himap {
namespace {

/** fn(first lane, lanes) over a row in vectors; `lanes` is kWidth but for the last. */
template <class Fn>
HIMAP_INLINE void for_vectors(int64_t elements, const Fn& fn) {
  int64_t i = 0;
  for (; i + kWidth <= elements; i += kWidth) fn(i, int64_t{kWidth});
  if (i < elements) fn(i, elements - i);
}

HIMAP_INLINE Vec take(const float* from, int64_t n) { return n == kWidth ? load(from) : load_first(from, n); }
HIMAP_INLINE void put(float* to, Vec value, int64_t n) {
  if (n == kWidth) store(to, value);
  else store_first(to, value, n);
}

void load_row(const void* from, DType type, int64_t elements, float* to) {
  with_loader(type, [&](auto loader) {
    using Load = decltype(loader);
    const char* bytes = static_cast<const char*>(from);
    for_vectors(elements, [&](int64_t i, int64_t n) {
      const char* at = bytes + i * Load::kBytes;
      put(to + i, n == kWidth ? Load::at(at) : Load::first_at(at, n), n);
    });
  });
}

void store_row(const float* from, int64_t elements, void* to, DType type) {
  if (type == DType::kF32) {
    __builtin_memcpy(to, from, static_cast<size_t>(elements) * 4);
    return;
  }
  char* bytes = static_cast<char*>(to);
  for_vectors(elements, [&](int64_t i, int64_t n) {
    const Vec value = take(from + i, n);
    const Half half = type == DType::kF16 ? to_f16(value) : to_bf16(value);
    __builtin_memcpy(bytes + i * 2, &half, static_cast<size_t>(n) * 2);
  });
}

void rms_norm(const float* x, const float* weight, int64_t width, float eps, float* y) {
  Vec squares = {};
  for_vectors(width, [&](int64_t i, int64_t n) {
    const Vec value = take(x + i, n);
    squares = fma(value, value, squares);
  });
  const float factor = 1.0f / __builtin_sqrtf(sum_lanes(squares) / static_cast<float>(width) + eps);
  for_vectors(width, [&](int64_t i, int64_t n) { put(y + i, take(x + i, n) * factor * take(weight + i, n), n); });
}

void layer_norm(const float* x, const float* weight, const float* bias, int64_t width, float eps, float* y) {
  Vec total = {};
  for_vectors(width, [&](int64_t i, int64_t n) { total += take(x + i, n); });
  const float mean = sum_lanes(total) / static_cast<float>(width);
  Vec squares = {};
  for_vectors(width, [&](int64_t i, int64_t n) {
    Vec value = take(x + i, n) - mean;
    if (n < kWidth) value = lanes() < static_cast<int32_t>(n) ? value : Vec{};
    squares = fma(value, value, squares);
  });
  const float factor = 1.0f / __builtin_sqrtf(sum_lanes(squares) / static_cast<float>(width) + eps);
  for_vectors(width, [&](int64_t i, int64_t n) {
    put(y + i, (take(x + i, n) - mean) * factor * take(weight + i, n) + take(bias + i, n), n);
  });
}

void rotate(float* x, const float* cos, const float* sin, int32_t half) {
  for_vectors(half, [&](int64_t i, int64_t n) {
    const Vec a = take(x + i, n);
    const Vec b = take(x + half + i, n);
    const Vec c = take(cos + i, n);
    const Vec s = take(sin + i, n);
    put(x + i, a * c - b * s, n);
    put(x + half + i, b * c + a * s, n);
  });
}

void divide_row(const float* sum, float total, int32_t elements, float* y) {
  for_vectors(elements, [&](int64_t i, int64_t n) { put(y + i, take(sum + i, n) / total, n); });
}

float exp_sum(const float* x, int64_t elements, float max) {
  Vec total = {};
  for_vectors(elements, [&](int64_t i, int64_t n) {
    Vec value = exp(take(x + i, n) - max);
    if (n < kWidth) value = lanes() < static_cast<int32_t>(n) ? value : Vec{};
    total += value;
  });
  return sum_lanes(total);
}

}  // namespace
}  // namespace himap
