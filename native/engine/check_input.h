// What must hold of a step before anything of it runs: after this no index leaves its buffer.
#pragma once

#include "native/engine/step.h"
#include "native/model/manifest.h"

namespace himap {

/** ERR_INVALID_ARG, with the image or sequence that it is about, unless the step can run on a pool of `pages` pages. */
void check_input(const StepInput& input, const ModelConfig& config, int64_t pages);

}  // namespace himap
