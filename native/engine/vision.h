// Pixels to image tokens: the CLIP tower up to the layer that LLaVA reads, then the projector.
#pragma once

#include <functional>
#include <vector>

#include "native/engine/step.h"
#include "native/model/model.h"

namespace himap {

class Vision {
 public:
  Vision(Backend& backend, const Model& model);

  /** Images that go through the tower together: enough rows to keep the weights' conversion cheap, memory bounded. */
  static constexpr int64_t kImagesAtOnce = 4;

  /**
   * Fills `features`, (images * image tokens, hidden) activations, from pixels or given features.
   * `check` is called between layers and may throw to give up.
   */
  void encode(const std::vector<StepImage>& images, void* features, std::vector<StepImageResult>& results,
              const std::function<void()>& check);

  /** Bytes of workspace for that many images at once. */
  static int64_t workspace_bytes(const ModelConfig& config, int64_t images, int64_t activation_bytes);

 private:
  void encode_chunk(const std::vector<const StepImage*>& images, const std::vector<char*>& outputs,
                    const std::vector<StepImageResult*>& results, const std::function<void()>& check);

  Backend& backend_;
  const Model& model_;
  Buffer pixels_, rows_, normed_, qkv_, attention_, ffn_, patches_, features_, cu_rows_, index_;
};

}  // namespace himap
