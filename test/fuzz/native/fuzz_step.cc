// A step of any shape on a tiny model: sequences that are nearly valid, fields of which become anything.
#include <algorithm>

#include "native/engine/engine.h"
#include "test/fuzz/native/target.h"
#include "test/native/tiny_model.h"

using namespace himap;
using test::Choices;

namespace {

constexpr int64_t kPages = 64;
constexpr size_t kMostSequences = 3;

Engine& engine() {
  static const test::MemoryFile file(test::tiny_weights());
  static const auto one = [] {
    EngineOptions options;
    options.library_folder = HIMAP_LIBRARY_FOLDER;
    options.threads = 1;
    options.kv_pages = kPages;
    return std::make_unique<Engine>(test::tiny_manifest(file.path()), options, nullptr);
  }();
  return *one;
}

int32_t narrow(int64_t value) { return static_cast<int32_t>(std::clamp<int64_t>(value, INT32_MIN, INT32_MAX)); }

std::vector<float> floats(Choices& choices, int64_t count) {
  std::vector<float> values(static_cast<size_t>(std::max<int64_t>(0, count)));
  const bool wild = choices.rarely();
  for (float& value : values) value = wild ? choices.any_float() : (static_cast<float>(choices.byte()) - 100) / 64;
  return values;
}

StepImage read_image(Choices& choices) {
  StepImage image;
  const int64_t pixels = 3 * test::kTinyImageSide * test::kTinyImageSide;
  const int64_t kind = choices.up_to(8);
  if (kind < 5 || kind == 7) image.features = floats(choices, choices.or_border(test::kTinyImageTokens * test::kTinyHidden, 0, 4096));
  if (kind >= 5) image.pixels = floats(choices, choices.or_border(pixels, 0, 4096));
  image.return_features = choices.rarely();
  image.return_vision = choices.rarely();
  return image;
}

StepCut read_cut(Choices& choices, int64_t before, int64_t alive) {
  StepCut cut;
  cut.before = choices.or_border(before);
  cut.keep = choices.or_border(choices.up_to(alive));
  cut.ranked = before > 0 && choices.up_to(3) != 0;
  cut.voters = static_cast<Voters>(choices.up_to(3));
  cut.heads_max = choices.up_to(1) == 1;
  if (choices.up_to(3) == 0) cut.weights = floats(choices, choices.or_border(2 * test::kTinyImageTokens, 0, 64));
  if (!cut.ranked) {
    for (int64_t i = 0; i < std::min<int64_t>(cut.keep, 64); ++i) cut.ranks.push_back(narrow(choices.or_border(i)));
  }
  return cut;
}

void read_prompt(Choices& choices, StepSequence& sequence, int64_t images) {
  const auto text = [&] {
    for (int64_t left = choices.up_to(6); left > 0; --left) {
      sequence.ids.push_back(narrow(choices.or_border(choices.up_to(test::kTinyVocabulary - 1))));
    }
  };
  text();
  for (int64_t spans = images ? choices.up_to(2) : 0; spans > 0; --spans) {
    sequence.spans.push_back({choices.or_border(sequence.rows()), choices.or_border(test::kTinyImageTokens), choices.or_border(choices.up_to(images - 1))});
    sequence.ids.insert(sequence.ids.end(), static_cast<size_t>(test::kTinyImageTokens), -1);
    text();
  }
  for (int32_t row = 0; row < static_cast<int32_t>(sequence.ids.size()); ++row) sequence.positions.push_back(narrow(choices.or_border(row)));
  int64_t alive = sequence.image_rows() >= 0 && sequence.image_rows() <= 64 ? sequence.image_rows() : 0;
  for (int64_t layer = 0; layer < test::kTinyLayers; ++layer) {
    if (choices.up_to(2) != 0) continue;
    sequence.cuts.push_back(read_cut(choices, layer, alive));
    alive = std::clamp<int64_t>(sequence.cuts.back().keep, 0, 64);
  }
  if (choices.rarely()) {
    sequence.study = true;
    sequence.study_logits_all = choices.up_to(1) == 1;
    sequence.study_hidden = choices.up_to(1) == 1;
    sequence.study_scores = choices.up_to(1) == 1;
  }
  sequence.return_scores = choices.up_to(3) == 0;
}

/** Stages that cover the layers as the cuts say, with pages anywhere in the pool. */
void read_stages(Choices& choices, StepSequence& sequence) {
  int64_t first = 0;
  const auto close = [&](int64_t end) {
    StepStage& stage = sequence.stages.emplace_back();
    stage.cached = sequence.phase == Phase::kDecode ? choices.or_border(choices.up_to(40)) : choices.or_border(0);
    stage.blocks = choices.or_border(2);
    const int64_t pages = choices.or_border(2 * std::clamp<int64_t>(end - first, 0, 64), 0, 256);
    for (int64_t i = 0; i < pages; ++i) stage.pages.push_back(narrow(choices.or_border(choices.up_to(kPages - 1))));
    first = end;
  };
  if (sequence.phase == Phase::kDecode) {
    if (choices.up_to(1) == 1) close(choices.up_to(test::kTinyLayers));
  } else {
    for (const StepCut& cut : sequence.cuts) close(cut.before);
  }
  close(test::kTinyLayers);
}

StepSequence read_sequence(Choices& choices, int64_t images) {
  StepSequence sequence;
  sequence.phase = choices.up_to(2) == 0 ? Phase::kDecode : Phase::kPrefill;
  if (sequence.phase == Phase::kDecode) {
    sequence.ids = {narrow(choices.or_border(choices.up_to(test::kTinyVocabulary - 1)))};
    sequence.positions = {narrow(choices.or_border(choices.up_to(60)))};
  } else {
    read_prompt(choices, sequence, images);
  }
  read_stages(choices, sequence);
  sequence.burst = choices.or_border(choices.up_to(7) == 0 ? 2 + choices.up_to(3) : 1);  // long ones are slow
  if (choices.up_to(3) == 0) {
    const int64_t count = choices.up_to(5);
    for (int64_t i = 0; i < count; ++i) sequence.adjust.tokens.push_back(narrow(choices.or_border(choices.up_to(test::kTinyVocabulary - 1))));
    sequence.adjust.add = floats(choices, choices.or_border(count, 0, 64));
    sequence.adjust.multiply = floats(choices, choices.or_border(count, 0, 64));
  }
  if (choices.up_to(7) == 0) {
    for (int64_t left = choices.or_border((test::kTinyVocabulary + 31) / 32, 0, 64); left > 0; --left) sequence.allowed.push_back(choices.word());
  }
  for (int64_t left = choices.up_to(2); left > 0; --left) sequence.stop.push_back(narrow(choices.or_border(choices.up_to(test::kTinyVocabulary - 1))));
  StepSampling& sampling = sequence.sampling;
  sampling.temperature = choices.rarely() ? choices.any_float() : static_cast<double>(choices.up_to(3));
  sampling.top_k = choices.or_border(choices.up_to(70));
  sampling.top_p = choices.rarely() ? choices.any_float() : static_cast<double>(1 + choices.up_to(99)) / 100;
  sampling.min_p = choices.rarely() ? choices.any_float() : static_cast<double>(choices.up_to(100)) / 100;
  for (uint32_t& word : sampling.seed) word = choices.word();
  return sequence;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Choices choices(data, size);
  StepInput input;
  for (int64_t left = choices.up_to(2); left > 0; --left) input.images.push_back(read_image(choices));
  for (size_t left = static_cast<size_t>(choices.up_to(kMostSequences)); left > 0; --left) {
    input.sequences.push_back(read_sequence(choices, static_cast<int64_t>(input.images.size())));
  }
  for (StepSequence& sequence : input.sequences) sequence.all_candidates = choices.up_to(3) != 0;
  for (int64_t left = choices.up_to(2); left > 0; --left) {
    input.copies.push_back({narrow(choices.or_border(choices.up_to(kPages - 1))), narrow(choices.or_border(choices.up_to(kPages - 1)))});
  }
  static uint64_t ticket = 0;
  const int64_t calls_before_yield = choices.up_to(7);
  std::vector<std::vector<StepToken>> told(input.sequences.size());
  const auto on_tokens = [&, calls = int64_t{0}](std::vector<StepToken>&& tokens) mutable {
    for (StepToken& token : tokens) told[token.sequence].push_back(std::move(token));
    if (++calls == calls_before_yield) engine().yield(ticket);
  };
  StepOutput output;
  ++ticket;
  if (test::refuses([&] { output = engine().step(input, ticket, on_tokens); })) return 0;

  // What came back must be of the shapes that were asked for.
  for (size_t s = 0; s < input.sequences.size(); ++s) {
    const StepSequence& sequence = input.sequences[s];
    const StepResult& result = output.sequences[s];
    if (result.cuts.size() != sequence.cuts.size() || told[s].empty()) std::abort();
    for (size_t c = 0; c < result.cuts.size(); ++c) {
      if (static_cast<int64_t>(result.cuts[c].kept.size()) != sequence.cuts[c].keep) std::abort();
    }
    for (const int32_t token : result.tokens) {
      if (token < 0 || token >= test::kTinyVocabulary) std::abort();
    }
    // What was told while it went on is what came back in the end.
    size_t shown = 0;
    for (size_t pass = 0; pass < told[s].size(); ++pass) {
      const StepToken& token = told[s][pass];
      const bool last = pass + 1 == told[s].size();
      if (token.token ? pass >= result.tokens.size() || *token.token != result.tokens[pass] : !last) std::abort();
      if (sequence.all_candidates != token.candidates.has_value() && !(last && !token.token)) std::abort();
      shown += token.candidates.has_value();
    }
    if (shown != result.candidates.size()) std::abort();
  }
  return 0;
}
