// Reads test/golden/<case>/replay.txt (scripts/make-replay.ts): a reference case without Node. The text is ours, so what
// does not fit throws std::runtime_error and ends the case.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "native/engine/step.h"

namespace himap::test {

/** Floats in a file of the case's folder. */
struct FloatsAt {
  std::string file;
  int64_t offset = 0;  // bytes
  int64_t count = 0;
};

struct ReplayCut {
  int64_t before = 0;
  std::string voters;
  std::string heads;
  std::vector<int32_t> kept;  // indices among the image tokens, ascending
};

struct ReplayPolicy {
  std::string name;
  std::vector<ReplayCut> cuts;
  std::vector<int32_t> tokens;
  FloatsAt logits;  // (recorded steps, vocabulary)
};

struct ReplayRequest {
  std::string name;
  std::vector<int32_t> ids;  // -1: image row
  int64_t span_start = 0;
  int64_t span_count = 0;    // 0: no image
  FloatsAt features;
  FloatsAt pixels;
  std::vector<ReplayPolicy> policies;
};

/** How far the reference itself is from its float32 run in 16-bit arithmetic, relative to the largest logit. */
struct HalfPrecision {
  double none_max = 0, none_rms = 0, forced_max = 0, forced_rms = 0;
  double overlap[2] = {1, 1};  // share of each kept set of `himap` that it reproduces
};

struct Replay {
  std::string name;
  std::string folder;
  std::string manifest;  // paths made absolute
  std::map<std::string, HalfPrecision> half;  // by "float16", "bfloat16"
  std::vector<ReplayRequest> requests;
};

Replay read_replay(const std::string& folder);

std::vector<float> read_floats(const Replay& replay, const FloatsAt& place);

/** Tokens that the page tables of `sequence_of` have room for behind the prompt. */
constexpr int64_t kNewTokens = 12;

/** The policy's cuts: decided by attention, or the recorded survivors forced as ranks among those alive. */
std::vector<StepCut> cuts_of(const ReplayPolicy& policy, int64_t image_tokens, bool forced);

/** A prompt, its burst of tokens included, on pages from 0 on; its picture is image 0 of the step. */
StepSequence sequence_of(const Replay& replay, const ReplayRequest& request, std::vector<StepCut> cuts, int64_t burst);

}  // namespace himap::test
