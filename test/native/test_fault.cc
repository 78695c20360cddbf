// What the engine does when a device fails: the CPU's backend with its Nth operation turned into a fault, for every N of
// opening a model and running a pruned prompt with a few tokens behind it.
#include <dlfcn.h>

#include <cmath>
#include <cstdlib>
#include <memory>
#include <optional>

#include "native/engine/engine.h"
#include "test/native/check.h"
#include "test/native/replay_file.h"

namespace himap::test {
namespace {

struct Report {
  int64_t operations = 0;
  int64_t after_loss = 0;
  bool happened = false;
};

Report report_of_device() {
  static const auto function = reinterpret_cast<void (*)(int64_t*, int64_t*, bool*)>(
      dlsym(dlopen(HIMAP_LIBRARY_FOLDER "/libhimap-fault.so", RTLD_NOW), "himap_fault_report"));
  Report report;
  function(&report.operations, &report.after_loss, &report.happened);
  return report;
}

const Replay& replay() {
  static const Replay loaded = read_replay(HIMAP_GOLDEN_FOLDER "/mha");
  return loaded;
}

std::unique_ptr<Engine> open_engine(const std::string& fault) {
  setenv("HIMAP_FAULT", fault.c_str(), 1);
  EngineOptions options;
  options.library_folder = HIMAP_LIBRARY_FOLDER;
  options.backend = "fault";
  options.threads = 1;
  options.kv_pages = 512;
  options.watchdog = std::chrono::milliseconds(2);
  return std::make_unique<Engine>(replay().manifest, options, nullptr);
}

std::vector<float> step(Engine& engine) {
  static uint64_t ticket = 0;
  const ReplayRequest& request = replay().requests[0];
  const ReplayPolicy& policy = request.policies[1];  // himap
  StepInput input;
  input.images.emplace_back().pixels = read_floats(replay(), request.pixels);
  input.sequences.push_back(sequence_of(replay(), request, cuts_of(policy, request.span_count, false), 3));
  const StepOutput output = engine.step(input, ++ticket);
  std::vector<float> logits;
  for (const Candidates& candidates : output.sequences[0].candidates) {
    require(!std::isnan(candidates.log_sum_exp), Code::ERR_BAD_CHECKPOINT, "[test] a logit is no number");
    logits.insert(logits.end(), candidates.logits.begin(), candidates.logits.end());
  }
  return logits;
}

struct Outcome {
  std::optional<Code> opening;  // the error of opening, or
  std::optional<Code> first;    // of the first step
  std::optional<Code> second;   // and of the one after it
  bool second_right = false;    // the second step gave what an unharmed engine gives
};

template <class Work>
std::optional<Code> code_of(Work work) {
  try {
    work();
    return std::nullopt;
  } catch (const Error& error) {
    CHECK(!error.message.empty());
    return error.code;
  }
}

Outcome run(const std::string& fault, const std::vector<float>& right) {
  Outcome outcome;
  std::unique_ptr<Engine> engine;
  outcome.opening = code_of([&] { engine = open_engine(fault); });
  if (!engine) return outcome;
  outcome.first = code_of([&] { step(*engine); });
  outcome.second = code_of([&] { outcome.second_right = step(*engine) == right; });
  return outcome;
}

/** Every N until the fault no longer fires; `check` sees each outcome in which it did. */
template <class Check>
int64_t for_every_operation(const std::string& kind, Check check) {
  const std::vector<float> right = step(*open_engine(""));
  const int64_t total = report_of_device().operations;
  int64_t fired = 0;
  for (int64_t n = 1; n <= total; ++n) {
    const Outcome outcome = run(std::to_string(n) + " " + kind, right);
    if (!report_of_device().happened) continue;
    ++fired;
    check(outcome);
    CHECK_EQ(report_of_device().after_loss, 0);
  }
  std::printf("NOTE: %s at each of %lld operations: %lld faults\n", kind.c_str(), static_cast<long long>(total), static_cast<long long>(fired));
  return fired;
}

/** A fault that passes: opening fails cleanly, or one step fails and the next is right to the bit. */
void recovers_from(const std::string& kind, Code code) {
  const int64_t fired = for_every_operation(kind, [&](const Outcome& outcome) {
    if (outcome.opening) {
      CHECK(*outcome.opening == code);
      return;
    }
    CHECK(outcome.first == code);
    CHECK(!outcome.second && outcome.second_right);
  });
  CHECK(fired > 100);
}

/** A fault that does not: everything after it is ERR_DEVICE_LOST, and nothing reaches the device. */
void is_lost_by(const std::string& kind) {
  const int64_t fired = for_every_operation(kind, [&](const Outcome& outcome) {
    if (outcome.opening) {
      CHECK(*outcome.opening == Code::ERR_DEVICE_LOST);
      return;
    }
    CHECK(outcome.first == Code::ERR_DEVICE_LOST || outcome.second == Code::ERR_DEVICE_LOST);
    CHECK(outcome.second == Code::ERR_DEVICE_LOST);
  });
  CHECK(fired > 100);
}

}  // namespace

TEST("out of memory: a typed error, then the same bits") { recovers_from("oom", Code::ERR_OUT_OF_MEMORY); }
TEST("a refused launch: a typed error, then the same bits") { recovers_from("launch", Code::ERR_INTERNAL); }
TEST("a lost device: every later call is refused without reaching it") { is_lost_by("lost"); }
TEST("a hanging device: the watchdog ends the step") { is_lost_by("hang"); }
TEST("a result that is no number: the sequence is told so, the next step is right") {
  const int64_t fired = for_every_operation("nan", [](const Outcome& outcome) {
    CHECK(!outcome.opening);
    // Behind the first step's last result, the fault falls into the second.
    const bool in_first = outcome.first == Code::ERR_BAD_CHECKPOINT && !outcome.second && outcome.second_right;
    CHECK(in_first || (!outcome.first && outcome.second == Code::ERR_BAD_CHECKPOINT));
  });
  CHECK(fired > 50);
}

}  // namespace himap::test

TEST_MAIN()
