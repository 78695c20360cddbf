#include "native/engine/engine.h"

#include <algorithm>
#include <chrono>

#include "native/engine/sampler.h"

namespace himap {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/** What a card computes a checkpoint in: its own 16-bit type; bfloat16, whose range is float32's, for any other. */
DType half_type(const Manifest& manifest) {
  const auto head = manifest.tensors.find("lm_head.weight");
  return head != manifest.tensors.end() && head->second.type == DType::kF16 ? DType::kF16 : DType::kBF16;
}

Model::Progress or_nothing(const Model::Progress& progress) {
  return progress ? progress : [](int64_t, int64_t) {};
}

}  // namespace

Engine::Engine(std::string_view manifest, const EngineOptions& options, const Model::Progress& progress)
    : Engine(parse_manifest(manifest), options, progress) {}

Engine::Engine(const Manifest& manifest, const EngineOptions& options, const Model::Progress& progress)
    : backend_(load_backend(options.library_folder, options.backend), DeviceOptions{options.threads, half_type(manifest)}, options.watchdog),
      model_(backend_, manifest, options.copy_weights, or_nothing(progress)),
      pool_(backend_,
            KvLayout{options.kv_type, static_cast<int32_t>(model_.config.kv_heads), static_cast<int32_t>(model_.config.head_dim)},
            options.kv_pages),
      vision_(backend_, model_),
      decoder_(backend_, model_, pool_),
      features_(backend_) {}

EngineInfo Engine::info() const {
  return {backend_.info().threads, backend_.info().detail, model_.mapped_bytes, model_.memory_bytes, pool_.bytes()};
}

StepOutput Engine::step(const StepInput& input, uint64_t ticket) {
  check_input(input);
  const auto check = [&] {
    require(interrupted_.load() < ticket, Code::ERR_ABORTED, "[step] the step was interrupted");
  };
  check();
  StepOutput output;
  output.images.resize(input.images.size());
  output.sequences.resize(input.sequences.size());

  Clock::time_point start = Clock::now();
  const void* features = nullptr;
  if (!input.images.empty()) {
    const int64_t elements = static_cast<int64_t>(input.images.size()) * model_.config.image_tokens * model_.config.hidden;
    features = features_.reserve(static_cast<size_t>(elements * backend_.info().activation_bytes));
    vision_.encode(input.images, features_.as<void>(), output.images, check);
    backend_.wait();
    output.timings.vision = milliseconds_since(start);
  }

  start = Clock::now();
  std::vector<const StepSequence*> sequences;
  std::vector<StepResult*> results;
  for (size_t s = 0; s < input.sequences.size(); ++s) {
    if (input.sequences[s].phase != Phase::kPrefill) continue;
    sequences.push_back(&input.sequences[s]);
    results.push_back(&output.sequences[s]);
  }
  if (!sequences.empty()) {
    decoder_.prefill(sequences, features, results, check);
    output.timings.prefill = milliseconds_since(start);
  }

  start = Clock::now();
  decode_bursts(input, output.sequences, check);
  output.timings.decode = milliseconds_since(start);
  return output;
}

void Engine::decode_bursts(const StepInput& input, std::vector<StepResult>& results, const std::function<void()>& check) {
  // A sequence under way: a prompt continues from its own prefill when its burst allows.
  struct Running {
    size_t index;
    int64_t passes;  // forward passes done
    Decoder::DecodeRow row;
  };
  std::vector<Running> running;
  for (size_t s = 0; s < input.sequences.size(); ++s) {
    const StepSequence& sequence = input.sequences[s];
    Decoder::DecodeRow row{&sequence, 0, 0, {}};
    if (sequence.phase == Phase::kDecode) {
      row.id = sequence.ids[0];
      row.position = sequence.positions[0];
      for (const StepStage& stage : sequence.stages) row.cached.push_back(stage.cached);
      running.push_back({s, 0, std::move(row)});
    } else if (sequence.burst > 1) {
      PlanJob job{.layers = model_.config.layers, .length = sequence.rows(), .image_tokens = sequence.image_rows(), .new_tokens = 0, .cuts = {}};
      for (const StepCut& cut : sequence.cuts) job.cuts.push_back({cut.before, cut.keep});
      for (const Stage& stage : plan_stages(job)) row.cached.push_back(stage.tokens);
      row.position = sequence.positions.back();
      running.push_back({s, 1, std::move(row)});
    }
  }
  while (!running.empty()) {
    // Choose the next token of every sequence that has candidates; drop those that are done.
    std::vector<Running> next;
    for (Running& one : running) {
      const StepSequence& sequence = input.sequences[one.index];
      StepResult& result = results[one.index];
      if (one.passes > 0) {
        if (one.passes >= sequence.burst) continue;
        const Candidates& candidates = result.candidates.back();
        const int64_t position = one.row.position + 1;
        one.row.id = candidates.ids[choose_token(candidates, sequence.sampling, position)];
        one.row.position = static_cast<int32_t>(position);
        result.tokens.push_back(one.row.id);
        if (std::find(sequence.stop.begin(), sequence.stop.end(), one.row.id) != sequence.stop.end()) continue;
      }
      next.push_back(std::move(one));
    }
    running = std::move(next);
    if (running.empty()) break;
    std::vector<Decoder::DecodeRow> rows;
    std::vector<StepResult*> row_results;
    for (Running& one : running) {
      rows.push_back(one.row);
      row_results.push_back(&results[one.index]);
    }
    decoder_.decode(rows, row_results, check);
    for (Running& one : running) {
      one.passes += 1;
      for (int64_t& cached : one.row.cached) cached += 1;
    }
  }
}

void Engine::check_input(const StepInput& input) const {
  const auto must = [](bool holds, size_t image, const std::string& message) {
    require(holds, Code::ERR_INVALID_ARG, "[step] image " + std::to_string(image) + ": " + message);
  };
  const ModelConfig& config = model_.config;
  const auto pixels = static_cast<size_t>(3 * config.vision.image_size * config.vision.image_size);
  const auto features = static_cast<size_t>(config.image_tokens * config.hidden);
  for (size_t i = 0; i < input.images.size(); ++i) {
    const StepImage& image = input.images[i];
    must(image.pixels.empty() != image.features.empty(), i, "expected either pixels or features");
    must(image.pixels.empty() || image.pixels.size() == pixels, i,
         "pixels must have " + std::to_string(pixels) + " values; got " + std::to_string(image.pixels.size()));
    must(image.features.empty() || image.features.size() == features, i,
         "features must have " + std::to_string(features) + " values; got " + std::to_string(image.features.size()));
    must(!image.return_vision || !image.pixels.empty(), i, "the tower's output can only be returned for pixels");
  }
  for (size_t s = 0; s < input.sequences.size(); ++s) check_sequence(input.sequences[s], s, input.images.size());
}

void Engine::check_sequence(const StepSequence& sequence, size_t index, size_t images) const {
  const auto must = [&](bool holds, const std::string& message) {
    require(holds, Code::ERR_INVALID_ARG, "[step] sequence " + std::to_string(index) + ": " + message);
  };
  const ModelConfig& config = model_.config;
  const bool prefill = sequence.phase == Phase::kPrefill;
  const int64_t rows = sequence.rows();
  must(rows >= 1 && (prefill || rows == 1), "expected " + std::string(prefill ? "at least one row" : "one row") + "; got " + std::to_string(rows));
  must(static_cast<int64_t>(sequence.positions.size()) == rows, "positions must have as many values as ids");
  must(sequence.burst >= 1, "burst must be positive; got " + std::to_string(sequence.burst));
  for (const int32_t position : sequence.positions) {
    must(position >= 0 && position + sequence.burst <= config.max_positions,
         "positions must lie below " + std::to_string(config.max_positions) + "; got " + std::to_string(position));
  }
  must(prefill || (sequence.spans.empty() && sequence.cuts.empty() && !sequence.study), "a decode row has no spans, cuts or study");

  std::vector<bool> image_row(static_cast<size_t>(rows), false);
  int64_t after = 0;
  for (const StepSpan& span : sequence.spans) {
    must(span.count == config.image_tokens && span.start >= after && span.start <= rows - span.count, "a span must lie within the rows, behind the one before, with " + std::to_string(config.image_tokens) + " rows");
    must(span.image >= 0 && span.image < static_cast<int64_t>(images), "a span names image " + std::to_string(span.image) + " of " + std::to_string(images));
    std::fill_n(image_row.begin() + span.start, span.count, true);
    after = span.start + span.count;
  }
  for (int64_t row = 0; row < rows; ++row) {
    const int32_t id = sequence.ids[static_cast<size_t>(row)];
    must(image_row[static_cast<size_t>(row)] ? id == -1 : id >= 0 && id < config.vocabulary,
         "ids must be -1 in spans and from 0 to " + std::to_string(config.vocabulary - 1) + " elsewhere; got " + std::to_string(id));
  }

  PlanJob job{.layers = config.layers, .length = rows, .image_tokens = sequence.image_rows(), .new_tokens = 0, .cuts = {}};
  for (const StepCut& cut : sequence.cuts) job.cuts.push_back({cut.before, cut.keep});
  const std::vector<Stage> stages = plan_stages(job);
  for (const Stage& stage : stages) must(stage.tokens >= 1, "at least one row must survive every cut");
  for (size_t c = 0; c < sequence.cuts.size(); ++c) {
    const StepCut& cut = sequence.cuts[c];
    const int64_t alive = stages[c].image_tokens;
    must(!cut.ranked || cut.before > 0, "before layer 0 there is no attention to rank by");
    must(cut.weights.empty() || static_cast<int64_t>(cut.weights.size()) == sequence.image_rows(), "weights must have one value per image token");
    must(cut.ranked || static_cast<int64_t>(cut.ranks.size()) == cut.keep, "keptRanks must have as many values as are kept");
    int64_t previous = -1;
    for (const int32_t rank : cut.ranks) {
      must(rank > previous && rank < alive, "keptRanks must ascend below " + std::to_string(alive));
      previous = rank;
    }
  }

  // Pages: every stage's table covers its layers, and its tokens and the burst's fit.
  int64_t layers = 0;
  must(!prefill || sequence.stages.size() == stages.size(), "expected " + std::to_string(stages.size()) + " stages; got " + std::to_string(sequence.stages.size()));
  for (size_t s = 0; s < sequence.stages.size(); ++s) {
    const StepStage& stage = sequence.stages[s];
    must(stage.blocks >= 1 && stage.pages.size() % static_cast<size_t>(stage.blocks) == 0, "a page table must have blocks columns");
    const auto own_layers = static_cast<int64_t>(stage.pages.size()) / stage.blocks;
    must(!prefill || own_layers == stages[s].end - stages[s].first, "a page table must cover the layers of its stage");
    const int64_t tokens = prefill ? stages[s].tokens + sequence.burst - 1 : stage.cached + sequence.burst;
    must(!prefill || stage.cached == 0, "a prompt starts with nothing cached");
    must(stage.cached >= 0 && (own_layers == 0 || tokens <= stage.blocks * kPageTokens),
         "stage " + std::to_string(s) + " has room for " + std::to_string(stage.blocks * kPageTokens) + " tokens; " + std::to_string(tokens) + " are needed");
    for (const int32_t page : stage.pages) {
      must(page >= 0 && page < pool_.pages(), "page " + std::to_string(page) + " is not one of " + std::to_string(pool_.pages()));
    }
    layers += own_layers;
  }
  must(layers == config.layers, "page tables must cover " + std::to_string(config.layers) + " layers; got " + std::to_string(layers));

  const StepAdjust& adjust = sequence.adjust;
  must(adjust.add.size() == adjust.tokens.size() && adjust.multiply.size() == adjust.tokens.size(), "adjust must have as many factors and terms as tokens");
  for (const int32_t token : adjust.tokens) must(token >= 0 && token < config.vocabulary, "adjust names token " + std::to_string(token));
  must(sequence.allowed.empty() || static_cast<int64_t>(sequence.allowed.size()) == (config.vocabulary + 31) / 32, "allowed must have one bit per token");
  const StepSampling& sampling = sequence.sampling;
  must(sampling.temperature >= 0 && sampling.top_k >= 0 && sampling.top_p > 0 && sampling.min_p >= 0 && sampling.min_p <= 1, "sampling is out of range");
}

int64_t engine_workspace_bytes(const ModelConfig& config, int64_t rows, int64_t images) {
  constexpr int64_t kActivation = sizeof(float);  // of the CPU
  return Vision::workspace_bytes(config, images, kActivation) + Decoder::workspace_bytes(config, rows, kActivation);
}

}  // namespace himap
