// The engine end to end: prompts with pictures to their first tokens, and sequences decoding together, dense and pruned, with
// the floor of the same work on every line. Times are those of the clock around Engine::step, host work and all.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>

#include "bench/cuda/bench.h"
#include "bench/cuda/models.h"
#include "bench/cuda/prompts.h"
#include "native/engine/engine.h"

namespace himap::bench {
namespace {

constexpr double kMilliseconds = 1e3;

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/** Of every candidate of the last position of every sequence: speed must not change what is computed. */
uint64_t hash_of(const StepOutput& output) {
  uint64_t hash = 14695981039346656037u;
  const auto mix = [&](uint32_t word) { hash = (hash ^ word) * 1099511628211u; };
  for (const StepResult& result : output.sequences) {
    const Candidates& candidates = result.candidates.back();
    for (size_t i = 0; i < candidates.ids.size(); ++i) {
      uint32_t bits;
      std::memcpy(&bits, &candidates.logits[i], sizeof bits);
      mix(static_cast<uint32_t>(candidates.ids[i]));
      mix(bits);
    }
  }
  return hash;
}

class EngineRuns {
 public:
  explicit EngineRuns(Bench& bench)
      : bench_(bench), options_(bench.options), model_(bench.options.model), cuts_(himap_cuts(model_)) {}

  void open() {
    const RandomModel weights(model_);
    // A pool for the largest run, or what the card leaves beside the weights and the engine's working memory.
    const int64_t page_bytes =
        KvLayout{DType::kBF16, static_cast<int32_t>(model_.kv_heads), static_cast<int32_t>(model_.head_dim)}.page_bytes();
    int64_t wanted = 1;
    for (const int64_t batch : options_.decode_batches) {
      wanted = std::max(wanted, batch * pages_of(model_, options_.decode_text, {}, new_tokens()));
    }
    for (const Batch& batch : options_.prompts) {
      for (const int64_t text : options_.text_lengths) wanted = std::max(wanted, batch.requests * pages_of(model_, text, {}, 1));
    }
    pages_ = wanted;
    if (const std::optional<DeviceMemory> memory = device_memory(options_.library_folder, options_.backend)) {
      const int64_t working = memory->free / 12;  // 6 to 7 GB of a card of 80
      pages_ = std::max<int64_t>(1, std::min(wanted, (memory->free - weights.matrix_bytes() - working) / page_bytes));
    }
    EngineOptions engine;
    engine.library_folder = options_.library_folder;
    engine.backend = options_.backend;
    engine.kv_type = DType::kBF16;
    engine.kv_pages = pages_;
    const double start = now_ms();
    engine_ = std::make_unique<Engine>(weights.manifest(), engine, nullptr);
    bench_.report.fact("openSeconds", number((now_ms() - start) / kMilliseconds, 1));
    bench_.report.fact("kvBytes", number(static_cast<double>(pages_ * page_bytes), 0));
    for (int64_t i = 0; i < kImages; ++i) images_.push_back(make_image(model_, static_cast<uint32_t>(i + 1)));
  }

  void prompts();
  void throughput();
  void graphs();

 private:
  struct PromptTimes {
    std::vector<double> vision, prefill, total;  // ms
    uint64_t hash = 0;
    bool same = true;  // every repeat had the same bits
  };
  struct DecodeTimes {
    double step = 0;     // ms
    double job = 0;      // s, prompts and every token
    double job_floor = 0;
    uint64_t hash = 0;
  };

  int64_t new_tokens() const { return 1 + options_.warm_tokens + options_.bursts * options_.burst_tokens; }
  const std::vector<PlanCut>& cuts(bool pruned) const {
    static const std::vector<PlanCut> kNone;
    return pruned ? cuts_ : kNone;
  }
  bool fits(int64_t requests, int64_t text, bool pruned, int64_t tokens) const {
    return requests * pages_of(model_, text, cuts(pruned), tokens) <= pages_;
  }
  StepOutput step(const StepInput& input) { return engine_->step(input, ++ticket_); }

  /** Prompts [first, first + count) of a batch, each with a picture of its own. */
  StepInput prompt_step(int64_t first, int64_t count, int64_t text, bool pruned, int64_t tokens) {
    StepInput input;
    const int64_t pages = pages_of(model_, text, cuts(pruned), tokens);
    for (int64_t i = 0; i < count; ++i) {
      input.images.push_back(images_[static_cast<size_t>((first + i) % kImages)]);
      input.sequences.push_back(make_prompt(model_, text, cuts(pruned), tokens, i, static_cast<int32_t>((first + i) * pages),
                                            static_cast<uint32_t>(first + i + 1)));
    }
    return input;
  }

  PromptTimes time_prompts(const Batch& batch, int64_t text, bool pruned);
  DecodeTimes time_decode(int64_t sequences, bool pruned);
  Floor prompt_floor(int64_t batch, int64_t text, bool pruned) const {
    Floor floor = tower_floor(model_, batch, bench_.ceilings);
    floor += projector_floor(model_, batch, bench_.ceilings);
    floor += prefill_floor(model_, batch, text, cuts(pruned), bench_.ceilings);
    return floor;
  }
  /** Tokens behind the prompt that the timed steps attend to, on average, the new one included. */
  int64_t mean_generated() const { return options_.warm_tokens + (options_.bursts * options_.burst_tokens + 1) / 2; }
  Floor step_floor(int64_t sequences, bool pruned, int64_t generated) const {
    return decode_floor(model_, sequences, options_.decode_text, cuts(pruned), generated, bench_.ceilings);
  }
  void prompt_thresholds();

  static constexpr int64_t kImages = 32;
  Bench& bench_;
  const Options& options_;
  const ModelConfig& model_;
  std::vector<PlanCut> cuts_;
  int64_t pages_ = 0;
  std::unique_ptr<Engine> engine_;
  std::vector<StepImage> images_;
  uint64_t ticket_ = 0;
};

EngineRuns::PromptTimes EngineRuns::time_prompts(const Batch& batch, int64_t text, bool pruned) {
  const StepInput input = prompt_step(0, batch.requests, text, pruned, 1);
  PromptTimes times;
  times.hash = hash_of(step(input));  // buffers grow, kernels load: not timed
  for (int32_t i = 0; i < batch.repeats; ++i) {
    const double start = now_ms();
    const StepOutput output = step(input);
    times.total.push_back(now_ms() - start);
    times.vision.push_back(output.timings.vision);
    times.prefill.push_back(output.timings.prefill);
    times.same = times.same && hash_of(output) == times.hash;
  }
  return times;
}

void EngineRuns::prompts() {
  Table table("prompts", "To the first token: pixels in host memory to candidates in host memory",
              {{"prompts", "prompts"},
               {"text", "text tokens"},
               {"pruning", "pruning"},
               {"visionMs", "tower and projector, ms"},
               {"visionFloorMs", "floor"},
               {"prefillMs", "prefill, ms"},
               {"prefillFloorMs", "floor"},
               {"totalMs", "first token, ms"},
               {"floorMs", "floor"},
               {"timesFloor", "first token / floor"},
               {"sameBits", "repeats equal"},
               {"logits", "last logits"}});
  for (const Batch& batch : options_.prompts) {
    for (const int64_t text : options_.text_lengths) {
      for (const bool pruned : {false, true}) {
        const std::vector<Cell> head = {number(static_cast<double>(batch.requests), 0), number(static_cast<double>(text), 0),
                                        words(pruning_name(pruned))};
        std::vector<Cell> row = head;
        try {
          require(fits(batch.requests, text, pruned, 1), Code::ERR_OUT_OF_MEMORY, "does not fit the card");
          const PromptTimes times = time_prompts(batch, text, pruned);
          Floor vision = tower_floor(model_, batch.requests, bench_.ceilings);
          vision += projector_floor(model_, batch.requests, bench_.ceilings);
          const Floor prefill = prefill_floor(model_, batch.requests, text, cuts(pruned), bench_.ceilings);
          const double total = median(times.total), floor = kMilliseconds * (vision.seconds + prefill.seconds);
          bench_.first_token[{batch.requests, text, pruned}] = total;
          row.insert(row.end(),
                     {number(median(times.vision), 2), number(kMilliseconds * vision.seconds, 2),
                      number(median(times.prefill), 2), number(kMilliseconds * prefill.seconds, 2), number(total, 2),
                      number(floor, 2), number(total / floor, 2), words(times.same ? "yes" : "NO"), hash_text(times.hash)});
        } catch (const Error& error) {
          if (error.code == Code::ERR_DEVICE_LOST) throw;
          row = head;
          row.push_back(words(error.message));
          while (row.size() < 12) row.push_back(none());
        }
        table.add(row);
      }
    }
  }
  table.note(
      "Medians. The pictures' upload is inside \"tower and projector\"; first token is the whole step, candidates downloaded.");
  bench_.report.finish(table);
  prompt_thresholds();
}

void EngineRuns::prompt_thresholds() {
  for (const int64_t text : options_.text_lengths) {
    const auto dense = bench_.first_token.find({1, text, false}), pruned = bench_.first_token.find({1, text, true});
    if (dense == bench_.first_token.end() || pruned == bench_.first_token.end()) continue;
    const double dense_floor = kMilliseconds * prompt_floor(1, text, false).seconds;
    const double pruned_floor = kMilliseconds * prompt_floor(1, text, true).seconds;
    const std::string of = ", 1 prompt, " + std::to_string(text) + " text tokens";
    bench_.thresholds.at_most("first token / floor, dense" + of, dense->second / dense_floor, 1.4);
    bench_.thresholds.at_most("first token / floor, himap" + of, pruned->second / pruned_floor, 1.4);
    bench_.thresholds.at_most("himap / dense over that of the floors" + of,
                              pruned->second / dense->second / (pruned_floor / dense_floor), 1.12);
  }
}

EngineRuns::DecodeTimes EngineRuns::time_decode(int64_t sequences, bool pruned) {
  const int64_t text = options_.decode_text;
  const std::vector<Stage> stages = stages_of(model_, text, cuts(pruned), new_tokens());
  std::vector<StepSequence> prompts;
  std::vector<int32_t> ids;
  DecodeTimes times;
  double milliseconds = 0;
  for (int64_t first = 0; first < sequences; first += options_.prompts_at_once) {
    const int64_t count = std::min(options_.prompts_at_once, sequences - first);
    const StepInput input = prompt_step(first, count, text, pruned, new_tokens());
    const double start = now_ms();
    const StepOutput output = step(input);
    milliseconds += now_ms() - start;
    times.job_floor += prompt_floor(count, text, pruned).seconds;
    for (const StepResult& result : output.sequences) ids.push_back(result.candidates.back().ids[0]);
    prompts.insert(prompts.end(), input.sequences.begin(), input.sequences.end());
  }
  int64_t generated = 0;
  const auto burst = [&](int64_t tokens) {
    StepInput input;
    for (size_t s = 0; s < prompts.size(); ++s) {
      input.sequences.push_back(next_row(prompts[s], stages, ids[s], generated, tokens));
    }
    const double start = now_ms();
    const StepOutput output = step(input);
    const double took = now_ms() - start;
    for (size_t s = 0; s < prompts.size(); ++s) ids[s] = output.sequences[s].candidates.back().ids[0];
    generated += tokens;
    milliseconds += took;
    times.job_floor += static_cast<double>(tokens) * step_floor(sequences, pruned, generated - tokens / 2).seconds;
    times.hash = hash_of(output);
    return took;
  };
  burst(options_.warm_tokens);
  std::vector<double> per_step;
  for (int32_t i = 0; i < options_.bursts; ++i) {
    per_step.push_back(burst(options_.burst_tokens) / static_cast<double>(options_.burst_tokens));
  }
  times.step = median(per_step);
  times.job = milliseconds / kMilliseconds;
  return times;
}

void EngineRuns::throughput() {
  Table steps("decode",
              "Decode: one step of sequences with a prompt of " + std::to_string(options_.decode_text + model_.image_tokens) +
                  " tokens and " + std::to_string(mean_generated()) + " more",
              {{"sequences", "sequences"},
               {"pruning", "pruning"},
               {"stepMs", "step, ms"},
               {"floorMs", "floor, ms"},
               {"tokensPerSecond", "tokens/s"},
               {"floorTokensPerSecond", "the floor's"},
               {"gigabytes", "weights and KV, GB"},
               {"ofBandwidth", "of the bandwidth"},
               {"timesFloor", "step / floor"},
               {"logits", "last logits"}});
  Table jobs("throughput",
             "Throughput: dense against himap, decode alone and whole jobs (picture, prompt, " +
                 std::to_string(new_tokens() - 1) + " tokens)",
             {{"sequences", "sequences"},
              {"denseTokens", "dense, tokens/s"},
              {"himapTokens", "himap, tokens/s"},
              {"ratio", "ratio"},
              {"allowed", "ratio of the floors"},
              {"ofAllowed", "of it"},
              {"denseJobs", "dense, jobs/s"},
              {"himapJobs", "himap, jobs/s"},
              {"jobRatio", "ratio"},
              {"jobAllowed", "ratio of the floors"},
              {"jobOfAllowed", "of it"}});
  for (const int64_t sequences : options_.decode_batches) {
    const auto count = static_cast<double>(sequences);
    std::optional<DecodeTimes> both[2];
    double floors[2] = {};
    for (const bool pruned : {false, true}) {
      const std::vector<Cell> head = {number(count, 0), words(pruning_name(pruned))};
      const Floor floor = step_floor(sequences, pruned, mean_generated());
      floors[pruned] = floor.seconds;
      std::vector<Cell> row = head;
      try {
        require(fits(sequences, options_.decode_text, pruned, new_tokens()), Code::ERR_OUT_OF_MEMORY, "does not fit the card");
        const DecodeTimes times = time_decode(sequences, pruned);
        both[pruned] = times;
        bench_.decode_step[{sequences, options_.decode_text, pruned}] = times.step;
        const double seconds = times.step / kMilliseconds, used = floor.stored_bytes / seconds / bench_.ceilings.bytes_per_second;
        row.insert(row.end(), {number(times.step, 3), number(kMilliseconds * floor.seconds, 3), number(count / seconds, 0),
                               number(count / floor.seconds, 0), number(floor.stored_bytes * 1e-9, 2), share(used),
                               number(seconds / floor.seconds, 2), hash_text(times.hash)});
        if (sequences == 1 || sequences == 128) {
          bench_.thresholds.at_least(
              "decode, share of the bandwidth, " + std::to_string(sequences) + " sequences, " + pruning_name(pruned), used, 0.75);
        }
      } catch (const Error& error) {
        if (error.code == Code::ERR_DEVICE_LOST) throw;
        row = head;
        row.push_back(words(error.message));
        while (row.size() < 10) row.push_back(none());
      }
      steps.add(row);
    }
    if (!both[0] || !both[1]) {
      jobs.add({number(count, 0), both[0] ? number(kMilliseconds * count / both[0]->step, 0) : none(),
                both[1] ? number(kMilliseconds * count / both[1]->step, 0) : none(), none(), number(floors[0] / floors[1], 2),
                none(), both[0] ? number(count / both[0]->job, 2) : none(), both[1] ? number(count / both[1]->job, 2) : none(),
                none(), none(), none()});
      continue;
    }
    const double ratio = both[0]->step / both[1]->step, allowed = floors[0] / floors[1];
    const double job_ratio = both[0]->job / both[1]->job, job_allowed = both[0]->job_floor / both[1]->job_floor;
    jobs.add({number(count, 0), number(kMilliseconds * count / both[0]->step, 0),
              number(kMilliseconds * count / both[1]->step, 0), number(ratio, 2), number(allowed, 2), share(ratio / allowed),
              number(count / both[0]->job, 2), number(count / both[1]->job, 2), number(job_ratio, 2), number(job_allowed, 2),
              share(job_ratio / job_allowed)});
    if (sequences != 128) continue;
    bench_.thresholds.at_least("himap's gain at 128 sequences, of what the floors allow: decode", ratio / allowed, 0.85);
    bench_.thresholds.at_least("himap's gain at 128 sequences, of what the floors allow: whole jobs", job_ratio / job_allowed,
                               0.85);
  }
  steps.note("Bursts of " + std::to_string(options_.burst_tokens) +
             " greedy tokens, chosen on the host; the median burst. \"Of the bandwidth\": weights and KV, read once.");
  jobs.note("Prompts run " + std::to_string(options_.prompts_at_once) + " at a time, then all sequences decode together.");
  bench_.report.finish(steps);
  bench_.report.finish(jobs);
}

/** That what was timed ran from CUDA graphs, or did not. */
void EngineRuns::graphs() {
  Table table("graphs", "CUDA graphs: how all of that ran",
              {{"what", "what"},
               {"direct", "directly"},
               {"recorded", "recorded"},
               {"replayed", "replayed"},
               {"refused", "refused"}});
  const auto add = [&](const char* name, const GraphCounts& counts) {
    const auto count = [](int64_t value) { return number(static_cast<double>(value), 0); };
    table.add({words(name), count(counts.direct), count(counts.recorded), count(counts.replayed), count(counts.refused)});
  };
  const GraphCounts &decode = engine_->decode_graphs(), &vision = engine_->vision_graphs();
  add("decode steps", decode);
  add("vision tower", vision);
  bench_.report.finish(table);
  bench_.thresholds.at_most("CUDA graphs that the driver refused", static_cast<double>(decode.refused + vision.refused), 0);
}

}  // namespace

void measure_engine(Bench& bench) {
  EngineRuns runs(bench);
  runs.open();
  if (bench.options.wants("prompts")) runs.prompts();
  if (bench.options.wants("decode")) runs.throughput();
  runs.graphs();
}

}  // namespace himap::bench
