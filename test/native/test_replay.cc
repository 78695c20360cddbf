// Replays the reference cases through the engine without Node: ids, spans and features in; kept sets and greedy tokens
// equal, logits within 1e-4 of the largest. With another backend than the CPU's, 16-bit arithmetic is compared with the
// float32 CPU engine by the reference's own half-precision error.
//
//   test_replay [--backend NAME] [--cases DIR] [WORD]
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "native/engine/engine.h"
#include "native/prune/plan.h"
#include "test/native/check.h"
#include "test/native/replay_file.h"

namespace himap::test {
namespace {

constexpr int64_t kPoolPages = 4096;
std::string backend = HIMAP_REPLAY_BACKEND;
std::string cases_folder = HIMAP_GOLDEN_FOLDER;

std::unique_ptr<Engine> open_engine(const Replay& replay, const std::string& name) {
  EngineOptions options;
  options.library_folder = name == "shim" ? HIMAP_SHIM_FOLDER : HIMAP_LIBRARY_FOLDER;
  options.backend = name;
  options.kv_pages = kPoolPages;
  return std::make_unique<Engine>(replay.manifest, options, nullptr);
}

StepResult run(Engine& engine, const Replay& replay, const ReplayRequest& request, StepSequence sequence, bool from_pixels = false) {
  static uint64_t ticket = 0;
  StepInput input;
  if (request.span_count) {
    StepImage& image = input.images.emplace_back();
    (from_pixels ? image.pixels : image.features) = read_floats(replay, from_pixels ? request.pixels : request.features);
  }
  input.sequences.push_back(std::move(sequence));
  return std::move(engine.step(input, ++ticket).sequences[0]);
}

const ReplayPolicy& policy_of(const ReplayRequest& request, const std::string& name) {
  return *std::find_if(request.policies.begin(), request.policies.end(), [&](const ReplayPolicy& policy) { return policy.name == name; });
}

/** The float32 promise: everything recorded comes out. */
void replay_exactly(const std::string& name) {
  const Replay replay = read_replay(cases_folder + "/" + name);
  const std::unique_ptr<Engine> engine = open_engine(replay, backend);
  const auto vocabulary = static_cast<size_t>(parse_manifest(replay.manifest).config.vocabulary);
  for (const ReplayRequest& request : replay.requests) {
    for (const ReplayPolicy& policy : request.policies) {
      const auto tokens = static_cast<int64_t>(policy.tokens.size());
      const StepResult result = run(*engine, replay, request, sequence_of(replay, request, cuts_of(policy, request.span_count, false), tokens));
      std::vector<int32_t> made = result.tokens;
      made.push_back(result.candidates.back().ids[0]);
      CHECK(made == policy.tokens);
      for (size_t cut = 0; cut < policy.cuts.size(); ++cut) {
        const std::vector<int32_t> kept(result.cuts[cut].kept.begin(), result.cuts[cut].kept.end());
        CHECK(kept == policy.cuts[cut].kept);
      }
      const std::vector<float> logits = read_floats(replay, policy.logits);
      const size_t steps = logits.size() / vocabulary;
      for (size_t step = 0; step < steps; ++step) {
        const float* expected = &logits[step * vocabulary];
        const Candidates& candidates = result.candidates[step + 1 < steps ? step : result.candidates.size() - 1];
        float largest = 0;
        for (size_t i = 0; i < vocabulary; ++i) largest = std::max(largest, std::fabs(expected[i]));
        for (size_t i = 0; i < candidates.ids.size(); ++i) {
          CHECK(std::fabs(candidates.logits[i] - expected[candidates.ids[i]]) <= 1e-4f * largest);
        }
      }
    }
  }
}

struct Distance {
  double max = 0;
  double rms = 0;
};

/** Relative to the largest value of `expected`. */
Distance distance(const std::vector<float>& actual, const std::vector<float>& expected) {
  double largest = 0, worst = 0, squares = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(actual[i]) - expected[i]);
    largest = std::max(largest, std::fabs(static_cast<double>(expected[i])));
    worst = std::max(worst, difference);
    squares += difference * difference;
  }
  double own = 0;
  for (const float value : expected) own += static_cast<double>(value) * value;
  return {worst / largest, std::sqrt(squares / own)};
}

/** The 16-bit promise: no further from our float32 engine than 1.5 times what the reference is from its own. */
void replay_in_half_precision(const std::string& name) {
  const Replay replay = read_replay(cases_folder + "/" + name);
  const std::unique_ptr<Engine> device = open_engine(replay, backend);
  const std::unique_ptr<Engine> exact = open_engine(replay, "cpu");
  const ReplayRequest& request = replay.requests[0];
  const ReplayPolicy& himap = policy_of(request, "himap");
  const bool half = parse_manifest(replay.manifest).tensors.at("lm_head.weight").type == DType::kF16;
  const HalfPrecision& bound = replay.half.at(half ? "float16" : "bfloat16");

  for (const bool from_pixels : {false, true}) {
    for (const bool forced : {false, true}) {
      const ReplayPolicy& policy = forced ? himap : policy_of(request, "none");
      StepSequence sequence = sequence_of(replay, request, cuts_of(policy, request.span_count, true), 1);
      sequence.study = sequence.study_logits_all = true;
      const Distance found = distance(run(*device, replay, request, sequence, from_pixels).logits, run(*exact, replay, request, sequence, from_pixels).logits);
      const double most = forced ? bound.forced_max : bound.none_max;
      const double rms = forced ? bound.forced_rms : bound.none_rms;
      std::printf("NOTE: %s %s from %s: logits max %.3g (reference %.3g), rms %.3g (reference %.3g)\n", name.c_str(),
                  forced ? "himap, kept sets forced," : "unpruned", from_pixels ? "pixels" : "features", found.max, most, found.rms, rms);
      if (!from_pixels) CHECK(found.max <= 1.5 * most && found.rms <= 1.5 * rms);
    }
    const StepResult free = run(*device, replay, request, sequence_of(replay, request, cuts_of(himap, request.span_count, false), 1), from_pixels);
    for (size_t cut = 0; cut < himap.cuts.size(); ++cut) {
      const std::vector<int32_t>& expected = himap.cuts[cut].kept;
      double missed = 0;
      for (const int32_t index : expected) {
        const auto& kept = free.cuts[cut].kept;
        missed += std::find(kept.begin(), kept.end(), static_cast<uint32_t>(index)) == kept.end();
      }
      const auto size = static_cast<double>(expected.size());
      const double recorded = size * (1 - bound.overlap[cut]);
      std::printf("NOTE: %s cut %zu from %s: %g of %g survivors missed (reference %g)\n", name.c_str(), cut, from_pixels ? "pixels" : "features", missed, size, recorded);
      if (!from_pixels) CHECK(missed <= recorded + std::max(2.0, 0.03 * size));
    }
  }
}

void replay(const std::string& name) {
  if (backend == "cpu") replay_exactly(name);
  else replay_in_half_precision(name);
}

}  // namespace

TEST("mha: every request and policy") { replay("mha"); }
TEST("gqa: every request and policy") { replay("gqa"); }
TEST("full576: every request and policy") { replay("full576"); }
TEST("hd128: every request and policy") { replay("hd128"); }

}  // namespace himap::test

int main(int argc, char** argv) {
  const char* word = "";
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--backend") && i + 1 < argc) himap::test::backend = argv[++i];
    else if (!std::strcmp(argv[i], "--cases") && i + 1 < argc) himap::test::cases_folder = argv[++i];
    else word = argv[i];
  }
  return himap::test::run_all(word);
}
