#include "native/engine/burst.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "native/engine/sampler.h"

namespace himap {

Burst::Burst(const StepInput& input, int64_t layers, std::vector<StepResult>& results, const OnTokens& on_tokens)
    : input_(input), layers_(layers), results_(results), on_tokens_(on_tokens) {
  for (size_t s = 0; s < input.sequences.size(); ++s) {
    const StepSequence& sequence = input.sequences[s];
    if (sequence.phase == Phase::kPrefill) {
      prompts_.push_back(&sequence);
      prompt_results_.push_back(&results[s]);
      continue;
    }
    Decoder::DecodeRow row{&sequence, sequence.ids[0], sequence.positions[0], {}};
    for (const StepStage& stage : sequence.stages) row.cached.push_back(stage.cached);
    rows_.push_back(std::move(row));
    row_results_.push_back(&results[s]);
  }
}

void Burst::after_prefill(bool yielded) {
  std::vector<StepToken> told;
  for (size_t p = 0; p < prompts_.size(); ++p) {
    const StepSequence& sequence = *prompts_[p];
    Decoder::DecodeRow row{&sequence, 0, sequence.positions.back(), {}};
    if (!take(row, *prompt_results_[p], yielded, told)) continue;
    for (const Stage& stage : stages_of(sequence, layers_)) row.cached.push_back(stage.tokens);
    rows_.push_back(std::move(row));
    row_results_.push_back(prompt_results_[p]);
  }
  tell(std::move(told));
}

void Burst::after_pass(bool yielded) {
  std::vector<StepToken> told;
  size_t kept = 0;
  for (size_t r = 0; r < rows_.size(); ++r) {
    Decoder::DecodeRow& row = rows_[r];
    for (int64_t& cached : row.cached) ++cached;
    if (!take(row, *row_results_[r], yielded, told)) continue;
    if (kept != r) rows_[kept] = std::move(row);
    row_results_[kept++] = row_results_[r];
  }
  rows_.resize(kept);
  row_results_.resize(kept);
  tell(std::move(told));
}

bool Burst::take(Decoder::DecodeRow& row, StepResult& result, bool yielded, std::vector<StepToken>& told) {
  const StepSequence& sequence = *row.sequence;
  const Candidates& candidates = result.candidates.back();
  const int64_t passes = static_cast<int64_t>(result.tokens.size()) + 1;
  StepToken& token = told.emplace_back();
  token.sequence = static_cast<size_t>(&result - results_.data());
  // Logits that are no numbers end this sequence's burst alone: its caller is to tell what is wrong with them.
  if (passes < sequence.burst && !yielded && !std::isnan(candidates.log_sum_exp)) {
    row.position += 1;
    row.id = candidates.ids[choose_token(candidates, sequence.sampling, row.position)];
    token.token = row.id;
    result.tokens.push_back(row.id);
  }
  const bool show = sequence.all_candidates || !token.token;
  if (show && on_tokens_) token.candidates = candidates;
  if (!show) result.candidates.pop_back();
  return token.token && std::find(sequence.stop.begin(), sequence.stop.end(), row.id) == sequence.stop.end();
}

void Burst::tell(std::vector<StepToken>&& told) {
  if (on_tokens_ && !told.empty()) on_tokens_(std::move(told));
}

}  // namespace himap
