// What goes into a step and what comes out: lib/binding/native.ts says what each field means, in the same order.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kernels/types.h"

namespace himap {

/** In the order of ForwardResult.colsum. */
enum class Voters : int32_t { kInstruction = 0, kImage = 1, kLast = 2, kAll = 3 };
constexpr int32_t kVoterSets = 4;
constexpr uint8_t kVoterMasks[kVoterSets] = {kVotesInstruction, kVotesImage, kVotesLast, kVotesAll};

struct StepCut {
  int64_t before = 0;
  int64_t keep = 0;
  bool ranked = true;  // by attention; false: `ranks` are the survivors
  Voters voters = Voters::kInstruction;
  bool heads_max = false;
  std::vector<float> weights;  // (image tokens of the sequence), or empty
  std::vector<int32_t> ranks;  // (keep)
};

struct StepStage {
  int64_t cached = 0;
  int64_t blocks = 0;
  std::vector<int32_t> pages;  // (layers of the stage, blocks)
};

struct StepSpan {
  int64_t start = 0;
  int64_t count = 0;
  int64_t image = 0;
};

struct StepAdjust {
  std::vector<int32_t> tokens;
  std::vector<float> add;
  std::vector<float> multiply;
};

struct StepSampling {
  double temperature = 0;
  int64_t top_k = 0;
  double top_p = 1;
  double min_p = 0;
  uint32_t seed[2] = {0, 0};
  uint32_t sample = 0;
};

struct StepSequence {
  Phase phase = Phase::kPrefill;
  std::vector<int32_t> ids;        // (rows); -1: an image row
  std::vector<int32_t> positions;  // (rows)
  std::vector<StepSpan> spans;
  std::vector<StepCut> cuts;
  std::vector<StepStage> stages;
  StepAdjust adjust;
  std::vector<uint32_t> allowed;  // (ceil(vocabulary / 32)), or empty
  std::vector<int32_t> stop;
  int64_t burst = 1;
  bool all_candidates = true;
  StepSampling sampling;
  bool study = false;  // any of the three below
  bool study_logits_all = false;
  bool study_hidden = false;
  bool study_scores = false;
  bool return_scores = false;

  int64_t rows() const { return static_cast<int64_t>(ids.size()); }
  int64_t image_rows() const {
    int64_t count = 0;
    for (const StepSpan& span : spans) count += span.count;
    return count;
  }
};

struct StepImage {
  std::vector<float> pixels;    // (3, side, side), or
  std::vector<float> features;  // (image tokens, hidden)
  bool return_features = false;
  bool return_vision = false;
};

struct StepCopy {
  int32_t from = 0;
  int32_t to = 0;
};

struct StepInput {
  std::vector<StepImage> images;
  std::vector<StepSequence> sequences;
  std::vector<StepCopy> copies;
};

struct Candidates {
  std::vector<int32_t> ids;
  std::vector<float> logits;
  float log_sum_exp = 0;  // NaN: a logit was no number
};

struct StepToken {
  size_t sequence = 0;
  std::optional<int32_t> token;
  std::optional<Candidates> candidates;
};

/** Gets what each pass gave, on the engine's thread. */
using OnTokens = std::function<void(std::vector<StepToken>&&)>;

struct StepCutResult {
  std::vector<uint32_t> kept;
  std::vector<float> scores;
};

struct StepResult {
  std::vector<int32_t> tokens;
  std::vector<Candidates> candidates;
  std::vector<StepCutResult> cuts;
  std::vector<float> logits;
  std::vector<int32_t> positions;
  std::vector<std::vector<float>> hidden;
  std::vector<std::vector<float>> colsum;
  std::vector<std::vector<float>> blocks;
};

struct StepImageResult {
  std::vector<float> features;
  std::vector<float> vision;
};

struct StepTimings {
  double vision = 0;  // milliseconds
  double prefill = 0;
  double decode = 0;
  double idle = 0;
};

struct StepOutput {
  std::vector<StepImageResult> images;
  std::vector<StepResult> sequences;
  StepTimings timings;
};

}  // namespace himap
