// Every allocation, map, file read and thread start fails once: the first, then the second, until there are no more. Each
// time a typed error comes, or the same result as ever; nothing is left over; and what could be kept still works.
#include <atomic>
#include <cerrno>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "native/core/task_thread.h"
#include "native/engine/engine.h"
#include "native/image/resize.h"
#include "test/native/check.h"
#include "test/native/fail_nth.h"
#include "test/native/tiny_model.h"

using namespace himap;

namespace {

using test::Held;

std::string text_of(const Held& held) {
  return std::to_string(held.blocks) + " blocks, " + std::to_string(held.maps) + " maps, " + std::to_string(held.descriptors) +
         " descriptors, " + std::to_string(held.threads) + " threads";
}

/** True if `work` ran to its end. What it throws must be what the addon turns into a code of its own. */
template <class Work>
bool runs(const Work& work) {
  try {
    work();
    return true;
  } catch (const Error& error) {
    const bool typed = error.code == Code::ERR_OUT_OF_MEMORY || error.code == Code::ERR_BAD_CHECKPOINT || error.code == Code::ERR_NO_BINARY;
    if (!typed) test::report(__FILE__, __LINE__, std::string(code_name(error.code)) + ": " + error.message);
  } catch (const std::bad_alloc&) {  // ERR_OUT_OF_MEMORY
  } catch (const std::exception& error) {
    test::report(__FILE__, __LINE__, std::string("not typed: ") + error.what());
  }
  return false;
}

/**
 * `prepare` makes a subject, `work` is done on it with a fault, and `after` may look at what is left, with whether the
 * work ran to its end. Until no fault fires.
 */
template <class Prepare, class Work, class After>
void each_fault(const char* name, const Prepare& prepare, const Work& work, const After& after) {
  int64_t refused = 0;
  for (int64_t nth = 1;; ++nth) {
    const Held before = test::held();
    bool fired = false;
    {
      auto subject = prepare();
      test::fail_nth(nth);
      const bool ran = runs([&] { work(subject); });
      const char* failed = test::failed_request();
      test::fail_nth(0);
      fired = failed != nullptr;
      if (!ran) ++refused;
      if (!ran && !fired) test::report(__FILE__, __LINE__, "refused without a fault");
      after(subject, ran);
    }
    const Held left = test::held();
    if (!(left == before)) {
      test::report(__FILE__, __LINE__, "fault " + std::to_string(nth) + ": held " + text_of(before) + " before, " + text_of(left) + " after");
    }
    if (fired) continue;
    std::printf("NOTE: %s: %lld requests failed one after another, %lld typed errors, the others made no difference\n", name,
                static_cast<long long>(nth - 1), static_cast<long long>(refused));
    CHECK(nth > 1);
    return;
  }
}

struct TinyModel {
  test::MemoryFile file{test::tiny_weights()};
  std::string manifest = test::tiny_manifest(file.path());

  EngineOptions options(bool copy) const {
    EngineOptions chosen;
    chosen.library_folder = HIMAP_LIBRARY_FOLDER;
    chosen.threads = 2;
    chosen.copy_weights = copy;
    chosen.kv_pages = 2 * test::kTinyPages;
    return chosen;
  }
  std::unique_ptr<Engine> open(bool copy = false) const {
    return std::make_unique<Engine>(manifest, options(copy), nullptr);
  }
};

StepInput prompts() {
  StepInput input;
  input.images.emplace_back().pixels = test::tiny_pixels();
  input.images[0].return_features = true;
  input.sequences.push_back(test::tiny_prompt(3));
  StepSequence studied = test::tiny_prompt(1, 8);
  studied.study = studied.study_logits_all = studied.study_hidden = studied.study_scores = true;
  studied.return_scores = true;
  input.sequences.push_back(std::move(studied));
  return input;
}

StepInput decodes() {
  StepInput input;
  input.sequences = {test::tiny_decode(4, 3), test::tiny_decode(5, 1, 8)};
  input.sequences[0].adjust = {{1, 2}, {0.5f, -0.5f}, {1.5f, 1.5f}};
  input.sequences[1].allowed.assign((test::kTinyVocabulary + 31) / 32, 0x0F0F0F0Fu);
  input.sequences[0].all_candidates = false;
  input.copies = {{0, 2 * test::kTinyPages - 1}};
  return input;
}

/** All numbers that a prompt and the tokens behind it give. */
std::vector<float> answer(Engine& engine) {
  std::vector<float> numbers;
  const auto add = [&](const auto& list) { numbers.insert(numbers.end(), list.begin(), list.end()); };
  for (const StepInput& input : {prompts(), decodes()}) {
    const StepOutput output = engine.step(input, 1, [&](std::vector<StepToken>&& tokens) {
      for (const StepToken& token : tokens) numbers.push_back(static_cast<float>(token.token.value_or(-1)));
    });
    for (const StepImageResult& image : output.images) add(image.features);
    for (const StepResult& result : output.sequences) {
      add(result.tokens);
      add(result.logits);
      for (const Candidates& candidates : result.candidates) add(candidates.logits);
      for (const StepCutResult& cut : result.cuts) add(cut.kept);
      for (const auto& list : result.hidden) add(list);
      for (const auto& list : result.colsum) add(list);
    }
  }
  return numbers;
}

}  // namespace

TEST("opening a model") {
  const TinyModel model;
  const std::vector<float> expected = answer(*model.open());
  struct Way {
    const char* name;
    bool copy;
    int madvise_error;
  };
  for (const auto [name, copy, madvise_error] : {Way{"opening, weights mapped", false, EINVAL}, Way{"opening, weights mapped from a bad disk", false, EFAULT},
                                                 Way{"opening, weights copied", true, EINVAL}}) {
    test::madvise_fails_with(madvise_error);
    each_fault(
        name, [] { return std::unique_ptr<Engine>(); },
        [&](std::unique_ptr<Engine>& engine) { engine = model.open(copy); },
        [&](std::unique_ptr<Engine>& engine, bool ran) {
          CHECK_EQ(engine != nullptr, ran);
          if (engine) CHECK(answer(*engine) == expected);
        });
  }
}

TEST("a prompt with an image, cuts and a study, then decoding: the engine stays usable") {
  const TinyModel model;
  const std::vector<float> expected = answer(*model.open());
  each_fault(
      "prefill and decode", [&] { return std::pair(model.open(), std::vector<float>()); },
      [](auto& subject) { subject.second = answer(*subject.first); },
      [&](auto& subject, bool ran) {
        if (ran) CHECK(subject.second == expected);
        CHECK(answer(*subject.first) == expected);
      });
}

TEST("closing an engine asks the system for nothing") {
  const TinyModel model;
  std::unique_ptr<Engine> engine = model.open();
  answer(*engine);
  test::fail_nth(1);
  engine.reset();
  CHECK(test::failed_request() == nullptr);
  test::fail_nth(0);
}

TEST("threads with a queue") {
  each_fault(
      "threads", [] { return std::make_unique<std::atomic<int>>(0); },
      [](auto& ran) {
        TaskThread threads(3);
        for (int i = 0; i < 5; ++i) threads.post([&ran] { ++*ran; });
        while (*ran < 5) std::this_thread::yield();
        threads.stop();
      },
      [](auto&, bool) {});
}

TEST("pixels") {
  std::vector<uint8_t> pixels(20 * 90 * 3, 7);
  for (const Geometry geometry : {Geometry::kPad, Geometry::kCrop}) {
    const PreprocessParams params{.pixels = pixels.data(), .byte_length = pixels.size(), .width = 20, .height = 90, .channels = 3,
                                  .geometry = geometry, .side = 14, .mean = {0.5, 0.5, 0.5}, .std = {0.5, 0.5, 0.5}};
    const Preprocessed expected = preprocess(params);
    each_fault(
        "pixels", [] { return Preprocessed(); }, [&](Preprocessed& result) { result = preprocess(params); },
        [&](const Preprocessed& result, bool ran) {
          if (ran) CHECK(result.bytes == expected.bytes);
        });
  }
}

TEST_MAIN()
