#include "bench/cuda/prompts.h"

#include <algorithm>

namespace himap::bench {
namespace {

constexpr int64_t kPrefix = 35;

uint32_t next(uint32_t& state) { return state = state * 1664525u + 1013904223u; }

}  // namespace

std::vector<Stage> stages_of(const ModelConfig& config, int64_t text, const std::vector<PlanCut>& cuts, int64_t new_tokens) {
  return plan_stages({.layers = config.layers, .length = text + config.image_tokens, .image_tokens = config.image_tokens,
                      .new_tokens = new_tokens, .cuts = cuts});
}

int64_t pages_of(const ModelConfig& config, int64_t text, const std::vector<PlanCut>& cuts, int64_t new_tokens) {
  int64_t pages = 0;
  for (const Stage& stage : stages_of(config, text, cuts, new_tokens)) pages += (stage.end - stage.first) * stage.blocks;
  return pages;
}

StepSequence make_prompt(const ModelConfig& config, int64_t text, const std::vector<PlanCut>& cuts, int64_t new_tokens,
                         int64_t image, int32_t first_page, uint32_t seed) {
  StepSequence sequence;
  const int64_t prefix = std::min(kPrefix, text / 3), rows = text + config.image_tokens;
  uint32_t state = seed;
  for (int64_t row = 0; row < rows; ++row) {
    const bool of_image = row >= prefix && row < prefix + config.image_tokens;
    sequence.ids.push_back(of_image ? -1 : static_cast<int32_t>((next(state) >> 8) % static_cast<uint32_t>(config.vocabulary)));
    sequence.positions.push_back(static_cast<int32_t>(row));
  }
  sequence.spans = {{prefix, config.image_tokens, image}};
  for (size_t c = 0; c < cuts.size(); ++c) {
    StepCut& cut = sequence.cuts.emplace_back();
    cut.before = cuts[c].before;
    cut.keep = cuts[c].keep;
    cut.voters = c == 0 ? Voters::kInstruction : Voters::kImage;
  }
  for (const Stage& stage : stages_of(config, text, cuts, new_tokens)) {
    StepStage& own = sequence.stages.emplace_back();
    own.blocks = stage.blocks;
    for (int64_t i = 0; i < (stage.end - stage.first) * stage.blocks; ++i) own.pages.push_back(first_page++);
  }
  return sequence;
}

StepSequence next_row(const StepSequence& prompt, const std::vector<Stage>& stages, int32_t id, int64_t generated,
                      int64_t burst) {
  StepSequence row;
  row.phase = Phase::kDecode;
  row.ids = {id};
  row.positions = {static_cast<int32_t>(prompt.rows() + generated)};
  row.stages = prompt.stages;
  for (size_t s = 0; s < stages.size(); ++s) row.stages[s].cached = stages[s].tokens + generated;
  row.burst = burst;
  return row;
}

StepImage make_image(const ModelConfig& config, uint32_t seed) {
  StepImage image;
  image.pixels.resize(static_cast<size_t>(3 * config.vision.image_size * config.vision.image_size));
  uint32_t state = seed;
  for (float& pixel : image.pixels) pixel = static_cast<float>(next(state) >> 8) * 0x1p-22f - 2.0f;
  return image;
}

}  // namespace himap::bench
