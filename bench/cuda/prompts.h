// Requests for the engine, and the pages that they take.
#pragma once

#include <cstdint>
#include <vector>

#include "native/engine/step.h"
#include "native/model/manifest.h"
#include "native/prune/plan.h"

namespace himap::bench {

/** Pages of a sequence that may grow by `new_tokens`. */
int64_t pages_of(const ModelConfig& config, int64_t text, const std::vector<PlanCut>& cuts, int64_t new_tokens);

/**
 * One image among `text` tokens: 35 before it (the prefix of LLaVA-1.5's template, or a third of a short text), the rest
 * behind. The first cut asks the text behind the image, the second the image. `image`: its index in the step; `first_page`:
 * the first of the sequence's own pages.
 */
StepSequence make_prompt(const ModelConfig& config, int64_t text, const std::vector<PlanCut>& cuts, int64_t new_tokens,
                         int64_t image, int32_t first_page, uint32_t seed);

/** The row behind a sequence of which `generated` tokens are cached, to go on with token `id` for `burst` tokens. */
StepSequence next_row(const StepSequence& prompt, const std::vector<Stage>& stages, int32_t id, int64_t generated, int64_t burst);

std::vector<Stage> stages_of(const ModelConfig& config, int64_t text, const std::vector<PlanCut>& cuts, int64_t new_tokens);

/** Normalised pixels of nothing in particular. */
StepImage make_image(const ModelConfig& config, uint32_t seed);

}  // namespace himap::bench
