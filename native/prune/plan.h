// What is left after each cut, per sequence: the stage table. Pure arithmetic on lengths, known before anything runs;
// KV pages, attention lengths and the scheduler's costs are all read from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace himap {

struct PlanCut {
  int64_t before;  // layer, 0-based
  int64_t keep;    // image tokens that survive
};

struct PlanJob {
  int64_t layers;
  int64_t length;        // prompt tokens, image tokens included
  int64_t image_tokens;
  int64_t new_tokens;    // tokens that may be generated
  std::vector<PlanCut> cuts;
};

/** Layers [first, end) share a token set. n cuts make n + 1 stages; a cut before layer 0 leaves the first one empty. */
struct Stage {
  int64_t first;
  int64_t end;
  int64_t tokens;        // after prefill
  int64_t image_tokens;  // of those
  int64_t capacity;      // tokens at the end: `tokens` + new tokens
  int64_t blocks;        // pages per layer
};

/** ERR_INVALID_ARG unless 0 <= before < layers, strictly ascending, and no cut keeps more than is alive. */
std::vector<Stage> plan_stages(const PlanJob& job);

/** Index of the stage that holds `layer`. */
size_t stage_of(const std::vector<Stage>& stages, int64_t layer);

}  // namespace himap
