// Working memory of one thread. Blocking is constant, so that the whole is known from the head size alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention_decode/attention_decode.h"
#include "native/backend/cpu/kernels.h"

namespace himap {

constexpr int32_t kScoreStride = kKeyTile + 16;
constexpr int32_t kDotRows = 64;     // rows of x of one block of the decode family
constexpr int32_t kDotColumns = 64;  // columns of the same

// Packed x, packed weight panels, the block of results; offsets in floats, as below.
constexpr int64_t kGemmPanels = int64_t{kBlockRows} * kPackedStride;
constexpr int64_t kGemmSums = kGemmPanels + int64_t{kBlockPanels} * kBlockK;
constexpr int64_t kGemmFloats = kGemmSums + int64_t{kBlockRows} * kBlockPanels;

constexpr int64_t kDotFloats = int64_t{2} * kDotRows * kDotColumns;

/** Where the parts of an attention task's scratch begin. */
struct AttentionScratchLayout {
  int32_t padded;  // head_dim to whole panels of any instruction set
  int64_t k, v, scores, out, max, total, floats;

  constexpr explicit AttentionScratchLayout(int32_t head_dim)
      : padded((head_dim + 31) / 32 * 32),
        k((int64_t{head_dim} + kBlockK - 1) / kBlockK * kTaskRows * kPackedStride),
        v(k + int64_t{kKeyTile} * padded),
        scores(v + int64_t{kKeyTile} * padded),
        out(scores + int64_t{kStripRows} * kScoreStride),
        max(out + int64_t{kTaskRows} * padded),
        total(max + kTaskRows),
        floats(total + kTaskRows) {}
};

/** Softmax weights of a split, its sum and the running sum. */
constexpr int64_t decode_scratch_floats(int32_t head_dim) { return kDecodeSplit + int64_t{2} * ((head_dim + 15) / 16 * 16); }

/** Most bytes that one thread of the backend needs, for every operation of a model with this largest head size. */
constexpr size_t thread_scratch_bytes(int32_t head_dim) {
  const int64_t attention = AttentionScratchLayout(head_dim).floats;
  const int64_t decode = decode_scratch_floats(head_dim);
  int64_t most = kGemmFloats > kDotFloats ? kGemmFloats : kDotFloats;
  most = attention > most ? attention : most;
  most = decode > most ? decode : most;
  return static_cast<size_t>(most) * sizeof(float);
}

}  // namespace himap
