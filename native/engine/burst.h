// The sequences of a step from pass to pass: which rows the next pass has, who goes on with which token, who leaves, and
// what is told of it. Nothing here touches the device.
#pragma once

#include <vector>

#include "native/engine/decoder.h"
#include "native/engine/step.h"

namespace himap {

class Burst {
 public:
  /** `results` and the input outlive it; the sequences that decode make the first pass of rows. `on_tokens` may be null. */
  Burst(const StepInput& input, int64_t layers, std::vector<StepResult>& results, const OnTokens& on_tokens);

  /** Those that start with a prefill, and where its candidates go. */
  const std::vector<const StepSequence*>& prompts() const { return prompts_; }
  const std::vector<StepResult*>& prompt_results() const { return prompt_results_; }

  /** The rows of the next pass, and where their candidates go; empty once everybody has left. */
  const std::vector<Decoder::DecodeRow>& rows() const { return rows_; }
  const std::vector<StepResult*>& row_results() const { return row_results_; }

  /** The prefill is done: the prompts whose burst allows it join the rows. `yielded`: nobody goes on. */
  void after_prefill(bool yielded);

  /** A pass of the rows is done. */
  void after_pass(bool yielded);

 private:
  /** Takes the candidates that a pass gave a sequence; true with its next row in `row` where it goes on. */
  bool take(Decoder::DecodeRow& row, StepResult& result, bool yielded, std::vector<StepToken>& told);
  void tell(std::vector<StepToken>&& told);

  const StepInput& input_;
  const int64_t layers_;
  std::vector<StepResult>& results_;
  const OnTokens& on_tokens_;
  std::vector<const StepSequence*> prompts_;
  std::vector<StepResult*> prompt_results_;
  std::vector<Decoder::DecodeRow> rows_;
  std::vector<StepResult*> row_results_;
};

}  // namespace himap
