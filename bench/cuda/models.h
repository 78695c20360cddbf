// The shapes that are measured, and a model of one: random weights that lie in no file. Each tensor is a window of one block
// of random numbers in memory, so that 14 GB of weights on the card come from a few hundred megabytes here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "native/model/manifest.h"
#include "native/prune/plan.h"
#include "test/native/made_model.h"

namespace himap::bench {

/** LLaVA-1.5: CLIP ViT-L/14 at 336 pixels, 23 of its 24 layers, and a LLaMA decoder. */
ModelConfig llava_7b();
ModelConfig llava_13b();
/** Of the same make, for the host's SIMT machine. */
ModelConfig llava_tiny();

/** Image tokens halved before layer 2 and quartered again before layer 8; in a shallow model, before layers 1 and 2. */
std::vector<PlanCut> himap_cuts(const ModelConfig& config);

/** Small bf16 numbers of random sign and fraction, between 2^-7 and 2^-5 in size, as the bits of 16-bit words. */
std::vector<uint16_t> random_bf16(int64_t elements, uint64_t seed);

class RandomModel {
 public:
  explicit RandomModel(const ModelConfig& config);
  const ModelConfig& config() const { return config_; }
  const std::string& manifest() const { return manifest_; }

  /** Bytes of the matrices on a card, without the padding of their images. */
  int64_t matrix_bytes() const { return matrix_bytes_; }

 private:
  ModelConfig config_;
  int64_t window_bytes_;
  test::MemoryFile file_;
  int64_t matrix_bytes_ = 0;
  std::string manifest_;
};

}  // namespace himap::bench
