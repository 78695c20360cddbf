// The residual stream's first rows, out of the table's image or the projected image tokens: one block per row.
// Moves: one row in, one row out.
#pragma once

#include "kernels/chunk.cuh"
#include "kernels/embed/embed.h"
#include "kernels/linear/weight_image.h"

namespace himap::device {

constexpr int32_t kEmbedThreads = 128;

struct EmbedKernelParams {
  const int32_t* source;
  WeightImage table;           // of T
  const void* maybe_features;  // (feature rows, width) T
  void* y;
};

template <class T>
HIMAP_KERNEL(kEmbedThreads, 1) embed_kernel(HIMAP_PARAMS(EmbedKernelParams) p) {
  const int64_t width = p.table.in, source = p.source[block_x()];
  T* y = static_cast<T*>(p.y) + int64_t{block_x()} * width;
  const T* feature = static_cast<const T*>(p.maybe_features) + (source < 0 ? -1 - source : 0) * width;
  const int64_t image_row = source < 0 ? 0 : p.table.image_row(source);
  const bool aligned = chunks_aligned<T>(p.y, width) && chunks_aligned<T>(p.maybe_features, width);
  for (int64_t c = int64_t{thread_id()} * kChunk; c < width; c += kEmbedThreads * kChunk) {
    const unsigned char* token = static_cast<const unsigned char*>(p.table.data) + p.table.chunk_offset(image_row, c);
    const T* from = source < 0 ? feature + c : reinterpret_cast<const T*>(token);
    float v[kChunk];
    load_chunk(v, from, width - c, aligned);
    store_chunk(y + c, v, width - c, aligned);
  }
}

}  // namespace himap::device
