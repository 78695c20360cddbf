// The sampler of native bursts. lib/sampling/ is its twin, line by line: both choose the same token.
#pragma once

#include <array>
#include <cstdint>

#include "native/engine/step.h"

namespace himap {

/** Philox4x32-10 (Salmon et al., SC 2011). */
std::array<uint32_t, 4> philox(const uint32_t key[2], std::array<uint32_t, 4> counter);

/** Index of the chosen candidate; `position` is the place that the new token takes in the sequence. */
size_t choose_token(const Candidates& candidates, const StepSampling& sampling, int64_t position);

}  // namespace himap
