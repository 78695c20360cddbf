#include "native/prune/plan.h"

#include <string>

#include "kernels/kv_layout.h"
#include "native/core/status.h"

namespace himap {

std::vector<Stage> plan_stages(const PlanJob& job) {
  const auto must = [](bool holds, const std::string& message) {
    require(holds, Code::ERR_INVALID_ARG, "[plan] " + message);
  };
  constexpr int64_t kMost = int64_t{1} << 31;
  must(job.layers >= 1 && job.layers < kMost, "layers must be positive; got " + std::to_string(job.layers));
  must(job.length >= 0 && job.length < kMost, "length must not be negative; got " + std::to_string(job.length));
  must(job.new_tokens >= 0 && job.new_tokens < kMost, "newTokens must not be negative; got " + std::to_string(job.new_tokens));
  must(job.image_tokens >= 0 && job.image_tokens <= job.length, "imageTokens must lie within length");

  std::vector<Stage> stages;
  int64_t first = 0;
  int64_t alive = job.image_tokens;
  const int64_t text = job.length - job.image_tokens;
  const auto close = [&](int64_t end) {
    const int64_t capacity = text + alive + job.new_tokens;
    stages.push_back({first, end, text + alive, alive, capacity, (capacity + kPageTokens - 1) / kPageTokens});
    first = end;
  };
  for (const PlanCut& cut : job.cuts) {
    must(cut.before >= 0 && cut.before < job.layers,
         "a cut must stand before a layer from 0 to " + std::to_string(job.layers - 1) + "; got " + std::to_string(cut.before));
    must(stages.empty() || cut.before > first, "cuts must stand before ascending layers");
    must(cut.keep >= 0 && cut.keep <= alive,
         "a cut must keep from 0 to " + std::to_string(alive) + " image tokens; got " + std::to_string(cut.keep));
    close(cut.before);
    alive = cut.keep;
  }
  close(job.layers);
  return stages;
}

size_t stage_of(const std::vector<Stage>& stages, int64_t layer) {
  size_t stage = 0;
  while (layer >= stages[stage].end) ++stage;
  return stage;
}

}  // namespace himap
