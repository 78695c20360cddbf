// Pixels to image tokens: the CLIP tower up to the layer that LLaVA reads, then the projector.
#pragma once

#include <functional>
#include <vector>

#include "native/engine/graphs.h"
#include "native/engine/step.h"
#include "native/model/model.h"

namespace himap {

class Vision {
 public:
  Vision(Backend& backend, const Model& model);

  /**
   * Fills `features`, (images * image tokens, hidden) activations, from pixels or given features.
   * `check` is called between layers and may throw to give up.
   */
  void encode(const std::vector<StepImage>& images, void* features, std::vector<StepImageResult>& results,
              const std::function<void()>& check);

  const GraphCounts& graph_counts() const { return graphs_.counts(); }

  /** Bytes of workspace for that many images in one step, `at_once` of which go through the tower together at most. */
  static int64_t workspace_bytes(const ModelConfig& config, int64_t images, int64_t at_once, int64_t activation_bytes);

 private:
  void encode_chunk(const std::vector<const StepImage*>& images, const std::vector<char*>& outputs,
                    const std::vector<StepImageResult*>& results, const std::function<void()>& check);
  /** From pixels_ of `images` pictures to features_ before the projector's last layer: operations and nothing else. */
  void tower(int64_t images, const std::function<void()>& between);

  Backend& backend_;
  const Model& model_;
  Buffer pixels_, rows_, normed_, qkv_, attention_, ffn_, patches_, features_, cu_rows_, index_;
  Graphs graphs_;
};

}  // namespace himap
