// The least time that a card can need, from what it can do at most: the only place of these formulas.
//
// Method: every matrix product takes the longer of FLOP / rate and bytes / bandwidth, and the products are summed. A product
// moves its weight, its input and its output once, in 16 bits. Attention of a prompt counts its exact triangle; of the
// vocabulary, a prompt needs the last row only. Norms, gathers, selection, the score pass and launches count as nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "native/model/manifest.h"
#include "native/prune/plan.h"

namespace himap::bench {

struct Ceilings {
  double bytes_per_second;
  double flops_per_second;
};

struct Work {
  double flops = 0;
  double bytes = 0;
  double stored_bytes = 0;  // of them: weights and the KV cache
};

/** A floor, and the work behind it. */
struct Floor {
  double seconds = 0;
  double flops = 0;
  double bytes = 0;
  double stored_bytes = 0;

  Floor& operator+=(const Floor& other);
};

double floor_seconds(const Work& work, const Ceilings& ceilings);

/** y (rows, out) = x (rows, in) W^T. */
Work linear_work(int64_t rows, int64_t out, int64_t in);
/** One layer's attention of a prompt of `rows` rows. `causal`: the triangle, else the square. */
Work prefill_attention_work(int64_t rows, int64_t heads, int64_t kv_heads, int64_t head_dim, bool causal);
/** One layer's attention of one new row to `length` tokens, itself included, with a 16-bit cache. */
Work decode_attention_work(int64_t length, int64_t heads, int64_t kv_heads, int64_t head_dim);

/** The matrices of one decoder layer, as they are launched. */
struct Matrix {
  const char* name;
  int64_t out;
  int64_t in;
};
std::vector<Matrix> decoder_matrices(const ModelConfig& config);
/** Of one layer of the tower, whose rows are patches and a class; of the projector, whose rows are image tokens. */
std::vector<Matrix> tower_matrices(const VisionConfig& vision);
std::vector<Matrix> projector_matrices(const ModelConfig& config);

/** The tower up to the layer that is read. Its attention, bound by arithmetic, counts FLOP only. */
Floor tower_floor(const ModelConfig& config, int64_t images, const Ceilings& ceilings);
Floor projector_floor(const ModelConfig& config, int64_t images, const Ceilings& ceilings);

/**
 * `batch` prompts of `text` text tokens and one image each. The layer before a cut compacts right after its attention, so
 * that its remaining products already have the rows of the next.
 */
Floor prefill_floor(const ModelConfig& config, int64_t batch, int64_t text, const std::vector<PlanCut>& cuts,
                    const Ceilings& ceilings);

/** One step of `batch` sequences whose prompts are as above, each with `generated` tokens behind it, the new one included. */
Floor decode_floor(const ModelConfig& config, int64_t batch, int64_t text, const std::vector<PlanCut>& cuts, int64_t generated,
                   const Ceilings& ceilings);

}  // namespace himap::bench
