#include "test/native/tiny_model.h"

#include <cstring>

#include "native/prune/plan.h"

namespace himap::test {
namespace {

ModelConfig tiny_config() {
  ModelConfig config;
  config.hidden = kTinyHidden;
  config.ffn = 12;
  config.layers = kTinyLayers;
  config.heads = 2;
  config.kv_heads = 1;
  config.head_dim = 8;
  config.vocabulary = kTinyVocabulary;
  config.rms_eps = 1e-5f;
  config.rope_theta = 10'000;
  config.max_positions = kTinyPositions;
  config.image_tokens = kTinyImageTokens;
  config.vision = {.hidden = 16, .ffn = 20, .layers = 1, .heads = 2, .image_size = kTinyImageSide, .patch_size = 2, .eps = 1e-5f,
                   .quick_gelu = true, .keep_class = false};
  return config;
}

constexpr int32_t kTextBefore = 3;
constexpr int32_t kTextAfter = 4;
constexpr int32_t kPromptRows = kTextBefore + static_cast<int32_t>(kTinyImageTokens) + kTextAfter;
constexpr int64_t kPagesPerLayer = 2;

std::vector<StepCut> tiny_cuts() {
  StepCut first;
  first.before = 1;
  first.keep = 5;
  StepCut second;
  second.before = 2;
  second.keep = 2;
  second.voters = Voters::kImage;
  second.heads_max = true;
  return {first, second};
}

std::vector<Stage> tiny_stages() {
  PlanJob job{.layers = kTinyLayers, .length = kPromptRows, .image_tokens = kTinyImageTokens, .new_tokens = 0, .cuts = {}};
  for (const StepCut& cut : tiny_cuts()) job.cuts.push_back({cut.before, cut.keep});
  return plan_stages(job);
}

/** Three stages of one layer each. */
std::vector<StepStage> step_stages(bool decode, int32_t first_page) {
  std::vector<StepStage> stages;
  for (const Stage& stage : tiny_stages()) {
    StepStage& own = stages.emplace_back();
    own.cached = decode ? stage.tokens : 0;
    own.blocks = kPagesPerLayer;
    for (int64_t i = 0; i < kPagesPerLayer; ++i) own.pages.push_back(first_page++);
  }
  return stages;
}

StepSampling tiny_sampling() {
  StepSampling sampling;
  sampling.temperature = 0.7;
  sampling.top_p = 0.9;
  sampling.seed[0] = 7;
  return sampling;
}

}  // namespace

std::vector<uint8_t> tiny_weights() {
  std::vector<float> values;
  uint32_t state = 1;
  for (const MadeTensor& tensor : tensors_of(tiny_config())) {
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      state = state * 1664525 + 1013904223;
      values.push_back((static_cast<float>(state >> 8) / (1 << 24) - 0.5f) * 0.8f);
    }
  }
  std::vector<uint8_t> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::string tiny_manifest(const std::string& path) {
  int64_t bytes = 0;
  for (const MadeTensor& tensor : tensors_of(tiny_config())) bytes += dtype_bytes(DType::kF32, tensor.elements());
  int64_t offset = 0;
  return manifest_of(tiny_config(), path, bytes, [&](const MadeTensor& tensor) {
    const Place place{DType::kF32, offset};
    offset += dtype_bytes(DType::kF32, tensor.elements());
    return place;
  });
}

StepSequence tiny_prompt(int64_t burst, int32_t first_page) {
  StepSequence sequence;
  for (int32_t row = 0; row < kPromptRows; ++row) {
    const bool image = row >= kTextBefore && row < kTextBefore + kTinyImageTokens;
    sequence.ids.push_back(image ? -1 : 1 + row);
    sequence.positions.push_back(row);
  }
  sequence.spans = {{kTextBefore, kTinyImageTokens, 0}};
  sequence.cuts = tiny_cuts();
  sequence.stages = step_stages(false, first_page);
  sequence.burst = burst;
  sequence.sampling = tiny_sampling();
  return sequence;
}

StepSequence tiny_decode(int32_t id, int64_t burst, int32_t first_page) {
  StepSequence sequence;
  sequence.phase = Phase::kDecode;
  sequence.ids = {id};
  sequence.positions = {kPromptRows};
  sequence.stages = step_stages(true, first_page);
  sequence.burst = burst;
  sequence.sampling = tiny_sampling();
  return sequence;
}

std::vector<float> tiny_pixels() {
  std::vector<float> pixels(static_cast<size_t>(3 * kTinyImageSide * kTinyImageSide));
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>(i % 17) / 8 - 1;
  return pixels;
}

}  // namespace himap::test
