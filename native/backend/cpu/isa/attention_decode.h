// Attention of one decoded row: a split of its keys and values where they lie in pages, and how splits are joined.
#pragma once

#include "native/backend/cpu/isa/math.h"
#include "native/backend/cpu/isa/rows.h"
#include "native/backend/cpu/kernels.h"

namespace himap {
namespace {

/** The first n <= kWidth elements. */
template <class Load>
HIMAP_INLINE Vec elements_at(const char* from, int64_t n) {
  return n == kWidth ? Load::at(from) : Load::first_at(from, n);
}

/** fn(token, its row), page by page. Unless `maybe_then` is null, asks memory meanwhile for the page after, at last for that one. */
template <class Fn>
HIMAP_INLINE void for_tokens(const DecodeSplit& p, const void* const* pages, int64_t row_bytes, const void* maybe_then, const Fn& fn) {
  for (int32_t first = 0, page = 0; first < p.tokens; first += p.page_tokens, ++page) {
    const int32_t end = first + p.page_tokens < p.tokens ? first + p.page_tokens : p.tokens;
    const auto* row = static_cast<const char*>(pages[page]);
    const auto* next = static_cast<const char*>(maybe_then && end < p.tokens ? pages[page + 1] : maybe_then);
    for (int32_t token = first; token < end; ++token, row += row_bytes) {
      if (next) {
        for (int64_t i = 0; i < row_bytes; i += kLineBytes) prefetch(next + i);
        next += row_bytes;
      }
      fn(token, row);
    }
  }
}

/** Columns [first, first + kVectors kWidth) of the tokens' values times their weights, in registers while the tokens pass. */
template <class Load, int kVectors>
HIMAP_INLINE void weigh_values(const DecodeSplit& p, const float* weights, int32_t first, const void* maybe_then, float* sum) {
  const int32_t columns = p.head_dim - first;
  const auto lanes_of = [&](int j) __attribute__((always_inline)) { return columns - j * kWidth < kWidth ? columns - j * kWidth : kWidth; };
  Vec acc[kVectors] = {};
  for_tokens(p, p.values, int64_t{p.head_dim} * Load::kBytes, maybe_then,
             [&](int32_t token, const char* row) __attribute__((always_inline)) {
               const Vec weight = splat(weights[token]);
#pragma GCC unroll 8
               for (int j = 0; j < kVectors; ++j) {
                 if (lanes_of(j) <= 0) continue;
                 acc[j] = fma(weight, elements_at<Load>(row + int64_t{first + j * kWidth} * Load::kBytes, lanes_of(j)), acc[j]);
               }
             });
  for (int j = 0; j < kVectors; ++j) {
    if (lanes_of(j) > 0) put(sum + first + j * kWidth, acc[j], lanes_of(j));
  }
}

template <class Load>
void decode_split_of(const DecodeSplit& p, float* weights, float* max_out, float* total_out, float* sum) {
  float high = -__builtin_inff();
  for_tokens(p, p.keys, int64_t{p.head_dim} * Load::kBytes, p.maybe_next ? p.values[0] : nullptr,
             [&](int32_t token, const char* key) __attribute__((always_inline)) {
               Vec dot = {};
               for_vectors(p.head_dim, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
                 dot = fma(take(p.q + i, n), elements_at<Load>(key + i * Load::kBytes, n), dot);
               });
               weights[token] = sum_lanes(dot) * p.scale;
               high = weights[token] > high ? weights[token] : high;
             });
  Vec total = {};
  for_vectors(p.tokens, [&](int64_t i, int64_t n) {
    Vec e = exp(take(weights + i, n) - high);
    if (n < kWidth) e = lanes() < static_cast<int32_t>(n) ? e : Vec{};
    put(weights + i, e, n);
    total += e;
  });
  for (int32_t first = 0; first < p.head_dim; first += 8 * kWidth) {
    const void* maybe_then = first == 0 ? p.maybe_next : nullptr;
    if (p.head_dim - first > 4 * kWidth) weigh_values<Load, 8>(p, weights, first, maybe_then, sum);
    else weigh_values<Load, 4>(p, weights, first, maybe_then, sum);
  }
  *max_out = high;
  *total_out = sum_lanes(total);
}

void decode_split(const DecodeSplit& p, float* weights, float* max_out, float* total_out, float* sum) {
  with_loader(p.type, [&](auto loader) { decode_split_of<decltype(loader)>(p, weights, max_out, total_out, sum); });
}

void merge_split(float later_max, float later_total, const float* later_sum, int32_t head_dim, float* max_inout,
                 float* total, float* sum) {
  const float high = later_max > *max_inout ? later_max : *max_inout;
  const float factor = exp(splat(*max_inout - high))[0];
  const float later_factor = exp(splat(later_max - high))[0];
  *total = *total * factor + later_total * later_factor;
  for_vectors(head_dim, [&](int64_t i, int64_t n) {
    put(sum + i, fma(take(later_sum + i, n), splat(later_factor), take(sum + i, n) * factor), n);
  });
  *max_inout = high;
}

}  // namespace
}  // namespace himap
