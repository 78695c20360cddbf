// The image tokens that survive a cut, chosen on the device: one block per sequence, which scores, ranks by counting and
// writes the gather list in the old order.
//
// Moves: the sequence's column sums once, its image indices twice, the list once. Ranking reads every score once per image
// row from shared memory (a broadcast). For the lengths of prompts that beats a sort, needs one barrier a phase and has no
// order to get wrong.
#pragma once

#include "kernels/block.cuh"
#include "kernels/select/select.h"

namespace himap::device {

constexpr int32_t kSelectThreads = 512;

struct SelectShared {
  BlockShared block;
  // Then (max_alive) float scores and (max_alive) bytes: whether an image row survives.
};

/** Bytes of shared memory of a launch. */
constexpr size_t select_shared_bytes(int32_t max_alive) { return sizeof(SelectShared) + static_cast<size_t>(max_alive) * 5; }

/** The score of one image row; NaN, which nothing could rank, counts as -infinity. */
HIMAP_DEVICE float select_score(const SelectParams& p, const SelectSequence& s, int32_t row) {
  const float* sums = p.maybe_sums + s.sums + int64_t{s.group} * s.columns + row - s.column0;
  const int64_t tile_stride = int64_t{s.groups} * s.columns;
  float joined = 0;
  for (int32_t head = 0; head < p.heads; ++head) {
    float sum = 0;
    for (int32_t tile = 0; tile < s.query_tiles; ++tile) sum += sums[(int64_t{head} * s.query_tiles + tile) * tile_stride];
    if (!s.heads_max) joined += sum;
    else joined = head == 0 || sum > joined || sum != sum ? sum : joined;
  }
  float score = s.heads_max ? joined : joined / static_cast<float>(p.heads);
  if (s.weights >= 0) score *= p.maybe_weights[s.weights + p.image_index[s.row0 + row]];
  return score != score ? -INFINITY : score;
}

HIMAP_KERNEL(kSelectThreads, 1) select_kernel(HIMAP_PARAMS(SelectParams) p) {
  auto& shared = shared_struct<SelectShared>();
  const SelectSequence s = p.sequences[block_x()];
  auto* scores = reinterpret_cast<float*>(&shared + 1);
  auto* kept = reinterpret_cast<unsigned char*>(scores + p.max_alive);
  const int32_t rows = (s.rows + kSelectThreads - 1) / kSelectThreads * kSelectThreads;  // every thread walks as far
  const bool ranked = s.sums >= 0 && s.ranks < 0;

  int32_t image = 0;  // image rows before this stretch
  for (int32_t base = 0; base < rows; base += kSelectThreads) {
    const int32_t row = base + thread_id();
    const bool is_image = row < s.rows && p.image_index[s.row0 + row] >= 0;
    int32_t all;
    const int32_t at = image + block_rank(is_image, shared.block, all);
    image += all;
    if (!is_image) continue;
    if (s.sums >= 0) {
      scores[at] = select_score(p, s, row);
      if (s.scores >= 0) p.maybe_scores[s.scores + at] = scores[at];
    }
    kept[at] = s.ranks < 0 && s.sums < 0;
  }
  sync_threads();
  if (ranked) {
    for (int32_t i = thread_id(); i < s.alive; i += kSelectThreads) {
      const float own = scores[i];
      int32_t rank = 0;
      for (int32_t j = 0; j < s.alive; ++j) rank += scores[j] > own || (scores[j] == own && j < i);
      kept[i] = rank < s.keep;
    }
  }
  if (s.ranks >= 0) {
    for (int32_t i = thread_id(); i < s.keep; i += kSelectThreads) kept[p.maybe_ranks[s.ranks + i]] = 1;
  }
  sync_threads();

  image = 0;
  int32_t out = s.out_row0;
  for (int32_t base = 0; base < rows; base += kSelectThreads) {
    const int32_t row = base + thread_id();
    const bool is_image = row < s.rows && p.image_index[s.row0 + row] >= 0;
    int32_t images, survivors;
    const int32_t at = image + block_rank(is_image, shared.block, images);
    const bool survives = row < s.rows && (!is_image || kept[at]);
    const int32_t to = out + block_rank(survives, shared.block, survivors);
    if (survives) p.source[to] = s.row0 + row;
    image += images;
    out += survivors;
  }
}

}  // namespace himap::device
