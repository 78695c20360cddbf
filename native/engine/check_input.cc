#include "native/engine/check_input.h"

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/kv_layout.h"
#include "native/core/status.h"
#include "native/engine/batch.h"

namespace himap {
namespace {

std::string text_of(const std::string& text) { return text; }
std::string text_of(int64_t number) { return std::to_string(number); }

/**
 * `must(holds, parts...)` refuses the step unless it holds. The sentence is put together only then: a decode step has a
 * thousand page numbers to look at.
 */
struct Must {
  const char* part;
  int64_t index = -1;  // -1: there is one such part

  template <class... Parts>
  void operator()(bool holds, const Parts&... parts) const {
    if (holds) return;
    const std::string about = std::string(part) + (index < 0 ? "" : " " + std::to_string(index));
    fail(Code::ERR_INVALID_ARG, "[step] " + about + ": " + (text_of(parts) + ...));
  }
};

void check_image(const Must& must, const StepImage& image, const ModelConfig& config) {
  const int64_t pixels = 3 * config.vision.image_size * config.vision.image_size;
  const int64_t features = config.image_tokens * config.hidden;
  const auto has = [](const std::vector<float>& values) { return static_cast<int64_t>(values.size()); };
  must(image.pixels.empty() != image.features.empty(), "expected either pixels or features");
  must(image.pixels.empty() || has(image.pixels) == pixels, "pixels must have ", pixels, " values; got ", has(image.pixels));
  must(image.features.empty() || has(image.features) == features,
       "features must have ", features, " values; got ", has(image.features));
  must(!image.return_vision || !image.pixels.empty(), "the tower's output can only be returned for pixels");
}

void check_rows(const Must& must, const StepSequence& sequence, int64_t images, const ModelConfig& config) {
  const bool prefill = sequence.phase == Phase::kPrefill;
  const int64_t rows = sequence.rows();
  must(rows >= 1 && (prefill || rows == 1), "expected ", prefill ? "at least one row" : "one row", "; got ", rows);
  must(static_cast<int64_t>(sequence.positions.size()) == rows, "positions must have as many values as ids");
  must(sequence.burst >= 1, "burst must be positive; got ", sequence.burst);
  for (const int32_t position : sequence.positions) {
    must(position >= 0 && position + sequence.burst <= config.max_positions,
         "positions must lie below ", config.max_positions, "; got ", position);
  }
  must(prefill || (sequence.spans.empty() && sequence.cuts.empty() && !sequence.study), "a decode row has no spans, cuts or study");

  std::vector<bool> image_row(static_cast<size_t>(rows), false);
  int64_t after = 0;
  for (const StepSpan& span : sequence.spans) {
    must(span.count == config.image_tokens && span.start >= after && span.start <= rows - span.count,
         "a span must lie within the rows, behind the one before, with ", config.image_tokens, " rows");
    must(span.image >= 0 && span.image < images, "a span names image ", span.image, " of ", images);
    std::fill_n(image_row.begin() + span.start, span.count, true);
    after = span.start + span.count;
  }
  for (size_t row = 0; row < sequence.ids.size(); ++row) {
    const int32_t id = sequence.ids[row];
    must(image_row[row] ? id == -1 : id >= 0 && id < config.vocabulary,
         "ids must be -1 in spans and from 0 to ", config.vocabulary - 1, " elsewhere; got ", id);
  }
}

void check_cuts(const Must& must, const StepSequence& sequence, const std::vector<Stage>& stages) {
  for (const Stage& stage : stages) must(stage.tokens >= 1, "at least one row must survive every cut");
  for (size_t c = 0; c < sequence.cuts.size(); ++c) {
    const StepCut& cut = sequence.cuts[c];
    const int64_t alive = stages[c].image_tokens;
    must(!cut.ranked || cut.before > 0, "before layer 0 there is no attention to rank by");
    must(cut.weights.empty() || static_cast<int64_t>(cut.weights.size()) == sequence.image_rows(),
         "weights must have one value per image token");
    must(cut.ranked || static_cast<int64_t>(cut.ranks.size()) == cut.keep, "keptRanks must have as many values as are kept");
    int64_t previous = -1;
    for (const int32_t rank : cut.ranks) {
      must(rank > previous && rank < alive, "keptRanks must ascend below ", alive);
      previous = rank;
    }
  }
}

/** Every stage's table covers its layers, and its tokens and the burst's fit. `stages`: those of a prompt. */
void check_pages(const Must& must, const StepSequence& sequence, const std::vector<Stage>& stages, int64_t layers, int64_t pages) {
  const bool prefill = sequence.phase == Phase::kPrefill;
  must(!prefill || sequence.stages.size() == stages.size(), "expected ", static_cast<int64_t>(stages.size()), " stages; got ",
       static_cast<int64_t>(sequence.stages.size()));
  int64_t covered = 0;
  for (size_t s = 0; s < sequence.stages.size(); ++s) {
    const StepStage& stage = sequence.stages[s];
    must(stage.blocks >= 1 && stage.pages.size() % static_cast<size_t>(stage.blocks) == 0, "a page table must have blocks columns");
    const auto own_layers = static_cast<int64_t>(stage.pages.size()) / stage.blocks;
    must(!prefill || own_layers == stages[s].end - stages[s].first, "a page table must cover the layers of its stage");
    const int64_t tokens = prefill ? stages[s].tokens + sequence.burst - 1 : stage.cached + sequence.burst;
    must(!prefill || stage.cached == 0, "a prompt starts with nothing cached");
    must(stage.cached >= 0 && (own_layers == 0 || tokens <= stage.blocks * kPageTokens),
         "stage ", static_cast<int64_t>(s), " has room for ", stage.blocks * kPageTokens, " tokens; ", tokens, " are needed");
    for (const int32_t page : stage.pages) must(page >= 0 && page < pages, "page ", page, " is not one of ", pages);
    covered += own_layers;
  }
  must(covered == layers, "page tables must cover ", layers, " layers; got ", covered);
}

void check_choice(const Must& must, const StepSequence& sequence, int64_t vocabulary) {
  const StepAdjust& adjust = sequence.adjust;
  must(adjust.add.size() == adjust.tokens.size() && adjust.multiply.size() == adjust.tokens.size(),
       "adjust must have as many factors and terms as tokens");
  for (const int32_t token : adjust.tokens) must(token >= 0 && token < vocabulary, "adjust names token ", token);
  must(sequence.allowed.empty() || static_cast<int64_t>(sequence.allowed.size()) == (vocabulary + 31) / 32,
       "allowed must have one bit per token");
  const StepSampling& sampling = sequence.sampling;
  must(sampling.temperature >= 0 && sampling.top_k >= 0 && sampling.top_p >= 0 && sampling.min_p >= 0 && sampling.min_p <= 1,
       "sampling is out of range");
}

/** They may run in any order: what one writes no other touches. */
void check_copies(const Must& must, const std::vector<StepCopy>& copies, int64_t pages) {
  std::vector<int32_t> written;
  for (const StepCopy& copy : copies) {
    for (const int32_t page : {copy.from, copy.to}) must(page >= 0 && page < pages, "page ", page, " is not one of ", pages);
    written.push_back(copy.to);
  }
  std::sort(written.begin(), written.end());
  must(std::adjacent_find(written.begin(), written.end()) == written.end(), "a page is written twice");
  for (const StepCopy& copy : copies) {
    must(!std::binary_search(written.begin(), written.end(), copy.from), "page ", copy.from, " is read and written");
  }
}

}  // namespace

void check_input(const StepInput& input, const ModelConfig& config, int64_t pages) {
  const auto images = static_cast<int64_t>(input.images.size());
  for (int64_t i = 0; i < images; ++i) check_image({"image", i}, input.images[static_cast<size_t>(i)], config);
  for (size_t s = 0; s < input.sequences.size(); ++s) {
    const Must must{"sequence", static_cast<int64_t>(s)};
    const StepSequence& sequence = input.sequences[s];
    check_rows(must, sequence, images, config);
    const std::vector<Stage> stages = stages_of(sequence, config.layers);
    check_cuts(must, sequence, stages);
    check_pages(must, sequence, stages, config.layers, pages);
    check_choice(must, sequence, config.vocabulary);
  }
  check_copies({"copies"}, input.copies, pages);
}

}  // namespace himap
