// What the tests of the engine on a 16-bit backend share: the tiny model on the backend under test (HIMAP_ENGINE_BACKEND, from
// HIMAP_ENGINE_FOLDER), steps of it, and what makes two results the same.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "native/engine/engine.h"
#include "test/native/check.h"
#include "test/native/tiny_model.h"

namespace himap::test {

inline std::unique_ptr<Engine> open_tiny(const std::string& folder, const std::string& backend, DType kv_type, int64_t pages) {
  static const MemoryFile weights(tiny_weights());
  EngineOptions options;
  options.library_folder = folder;
  options.backend = backend;
  options.kv_type = kv_type;
  options.kv_pages = pages;
  return std::make_unique<Engine>(tiny_manifest(weights.path()), options, nullptr);
}

/** The tiny model on the backend under test. */
inline std::unique_ptr<Engine> open_engine(int64_t pages, bool graphs = true) {
  setenv("HIMAP_CUDA_GRAPHS", graphs ? "on" : "off", 1);
  return open_tiny(HIMAP_ENGINE_FOLDER, HIMAP_ENGINE_BACKEND, DType::kBF16, pages);
}

inline std::vector<StepResult> step(Engine& engine, std::vector<StepSequence> sequences) {
  static uint64_t ticket = 0;
  StepInput input;
  input.images.emplace_back().pixels = tiny_pixels();
  input.sequences = std::move(sequences);
  return std::move(engine.step(input, ++ticket).sequences);
}

inline bool same(const StepResult& a, const StepResult& b) {
  if (a.tokens != b.tokens || a.candidates.size() != b.candidates.size() || a.cuts.size() != b.cuts.size()) return false;
  for (size_t i = 0; i < a.candidates.size(); ++i) {
    const Candidates &left = a.candidates[i], &right = b.candidates[i];
    if (left.ids != right.ids || left.logits != right.logits || left.log_sum_exp != right.log_sum_exp) return false;
  }
  for (size_t i = 0; i < a.cuts.size(); ++i) {
    if (a.cuts[i].kept != b.cuts[i].kept || a.cuts[i].scores != b.cuts[i].scores) return false;
  }
  return true;
}

/** The tiny prompt with other words in it, on pages of its own. */
inline StepSequence prompt(int32_t index, int64_t burst) {
  StepSequence sequence = tiny_prompt(burst, static_cast<int32_t>(kTinyPages) * index);
  for (int32_t& id : sequence.ids) {
    if (id >= 0) id = (id + 3 * index) % static_cast<int32_t>(kTinyVocabulary);
  }
  sequence.return_scores = true;
  return sequence;
}

/** All layers as one stage, on the same pages: a sequence of which nothing is pruned. */
inline void merge_stages(StepSequence& sequence) {
  StepStage all = sequence.stages[0];
  for (size_t s = 1; s < sequence.stages.size(); ++s) {
    all.pages.insert(all.pages.end(), sequence.stages[s].pages.begin(), sequence.stages[s].pages.end());
  }
  sequence.stages = {all};
}

/** Prompts that go on beside each other, rows that join and leave; what came out. Takes the pages of ten prompts. */
inline std::vector<StepResult> busy_day(Engine& engine) {
  std::vector<StepResult> all;
  const auto take = [&](std::vector<StepSequence> sequences) {
    for (StepResult& result : step(engine, std::move(sequences))) all.push_back(std::move(result));
  };
  take({prompt(0, 4)});
  take({prompt(1, 5), prompt(2, 3), prompt(3, 6)});
  for (int32_t i = 0; i < 4; ++i) take({tiny_decode(5 + i, 3, 0), tiny_decode(9, 1, static_cast<int32_t>(kTinyPages))});
  std::vector<StepSequence> many;
  for (int32_t i = 0; i < 9; ++i) many.push_back(prompt(i, 4));  // more rows than before: buffers move
  take(many);
  take({prompt(4, 4), tiny_decode(7, 4, 0)});
  take({tiny_decode(7, 4, 0)});
  return all;
}

}  // namespace himap::test
