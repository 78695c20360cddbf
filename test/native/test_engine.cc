// The engine on a 16-bit backend, the host's SIMT machine or a card: bits that depend neither on the company nor on a cut that
// cuts nothing nor on CUDA graphs, prompts and decode rows in one step and near to the CPU's, errors that come back as codes.
#include <algorithm>
#include <cmath>
#include <new>

#include "native/engine/graphs.h"
#include "test/native/engine_fixture.h"

namespace himap::test {
namespace {

/** The logit of every token in the vocabulary, of the last position. */
std::vector<double> logits_of(const StepResult& result) {
  const Candidates& candidates = result.candidates.back();
  std::vector<double> logits(static_cast<size_t>(kTinyVocabulary), 0);
  CHECK_EQ(candidates.ids.size(), logits.size());
  for (size_t i = 0; i < candidates.ids.size(); ++i) logits[static_cast<size_t>(candidates.ids[i])] = candidates.logits[i];
  return logits;
}

/** The largest difference, relative to the largest of `right`. */
double distance(const std::vector<double>& got, const std::vector<double>& right) {
  double worst = 0, largest = 0;
  for (size_t i = 0; i < right.size(); ++i) {
    const double off = std::abs(got[i] - right[i]);
    worst = off <= worst ? worst : off;  // a NaN stays
    largest = std::max(largest, std::abs(right[i]));
  }
  return worst / largest;
}

TEST("prefill and decode steps are those of the CPU in float32 but for rounding, directly, recorded and replayed") {
  constexpr double kRounding = 0.03;  // bf16 has 8 bits, and the tiny model three layers
  const std::unique_ptr<Engine> engine = open_engine(kTinyPages), exact = open_tiny(HIMAP_LIBRARY_FOLDER, "cpu", DType::kF32, kTinyPages);
  // Not pruned: rounding may decide what is kept.
  StepSequence whole = prompt(0, 1);
  whole.cuts.clear();
  merge_stages(whole);
  std::vector<double> last = logits_of(step(*exact, {whole})[0]);
  CHECK(distance(logits_of(step(*engine, {whole})[0]), last) <= kRounding);
  for (int32_t i = 0; i < 4; ++i) {
    StepSequence row = tiny_decode(5 + 7 * i, 1);
    merge_stages(row);
    row.positions[0] += i;
    row.stages[0].cached = row.positions[0];
    const std::vector<double> right = logits_of(step(*exact, {row})[0]);
    CHECK(distance(logits_of(step(*engine, {row})[0]), right) <= kRounding);
    CHECK(distance(last, right) > 10 * kRounding);  // the bound tells steps apart
    last = right;
  }
  CHECK_EQ(engine->decode_graphs().recorded, 1);
  CHECK_EQ(engine->decode_graphs().replayed, 2);
}

TEST("a sequence has the same bits alone and in a batch of 64") {
  const std::unique_ptr<Engine> engine = open_engine(64 * kTinyPages);
  std::vector<StepSequence> batch;
  for (int32_t i = 0; i < 64; ++i) batch.push_back(prompt(i, 2));
  const std::vector<StepResult> among = step(*engine, batch);
  for (const size_t index : {0, 37, 63}) {
    const std::vector<StepResult> alone = step(*engine, {batch[index]});
    CHECK(alone[0].candidates.size() == 2 && alone[0].cuts.size() == 2);
    CHECK(same(alone[0], among[index]));
  }
  CHECK(!same(among[0], among[37]));
}

TEST("with every token kept the bits are those of no pruning") {
  const std::unique_ptr<Engine> engine = open_engine(2 * kTinyPages);
  StepSequence kept = prompt(0, 1), whole = prompt(0, 1);
  for (StepCut& cut : kept.cuts) cut.keep = kTinyImageTokens;
  whole.cuts.clear();
  merge_stages(whole);
  kept.study = kept.study_logits_all = whole.study = whole.study_logits_all = true;
  const StepResult pruned = std::move(step(*engine, {kept})[0]), unpruned = std::move(step(*engine, {whole})[0]);
  CHECK(pruned.logits == unpruned.logits);
  CHECK(pruned.candidates[0].logits == unpruned.candidates[0].logits);
  CHECK_EQ(pruned.cuts[0].kept.size(), static_cast<size_t>(kTinyImageTokens));
}

TEST("a prompt beside rows that are decoding, as each alone") {
  const std::unique_ptr<Engine> engine = open_engine(3 * kTinyPages);
  step(*engine, {prompt(0, 1)});
  const StepSequence row = tiny_decode(5, 2, 0);
  const std::vector<StepResult> alone = step(*engine, {row});
  const std::vector<StepResult> together = step(*engine, {prompt(1, 1), row});
  CHECK(same(together[1], alone[0]));
  CHECK(same(together[0], step(*engine, {prompt(1, 1)})[0]));
}

TEST("copied pages carry a sequence on like those they were copied from") {
  const std::unique_ptr<Engine> engine = open_engine(2 * kTinyPages);
  step(*engine, {prompt(0, 1)});
  StepInput input;
  input.sequences = {tiny_decode(5, 3, static_cast<int32_t>(kTinyPages))};
  for (int32_t page = 0; page < kTinyPages; ++page) input.copies.push_back({page, page + static_cast<int32_t>(kTinyPages)});
  const std::vector<StepResult> copied = engine->step(input, 2).sequences;
  CHECK_EQ(copied[0].tokens.size(), size_t{2});
  CHECK(same(copied[0], step(*engine, {tiny_decode(5, 3, 0)})[0]));
}

TEST("heads that the kernels do not take are refused before anything is read") {
  ModelConfig config = parse_manifest(tiny_manifest("nowhere")).config;
  config.head_dim = 136;
  const std::string manifest = manifest_of(config, "nowhere", int64_t{1} << 30, [](const MadeTensor&) { return Place{DType::kBF16, 0}; });
  EngineOptions options;
  options.library_folder = HIMAP_ENGINE_FOLDER;
  options.backend = HIMAP_ENGINE_BACKEND;
  options.kv_pages = 1;
  CHECK_FAILS(Engine(manifest, options, nullptr), Code::ERR_UNSUPPORTED_MODEL);
}

TEST("a study, and what cannot be had") {
  const std::unique_ptr<Engine> engine = open_engine(kTinyPages);
  StepSequence sequence = prompt(0, 1);
  sequence.study = sequence.study_hidden = sequence.study_scores = true;
  const std::vector<StepResult> results = step(*engine, {sequence});
  CHECK_EQ(results[0].hidden.size(), static_cast<size_t>(kTinyLayers + 1));
  CHECK_EQ(results[0].colsum.size(), static_cast<size_t>(kTinyLayers));
  CHECK_FAILS(open_engine(int64_t{1} << 39), Code::ERR_OUT_OF_MEMORY);  // 256 TiB
  CHECK(same(results[0], step(*engine, {sequence})[0]));
}

TEST("graphs: the bits are those of no graphs") {
  const std::unique_ptr<Engine> off = open_engine(10 * kTinyPages, false), on = open_engine(10 * kTinyPages);
  const std::vector<StepResult> right = busy_day(*off), got = busy_day(*on);
  CHECK_EQ(got.size(), right.size());
  for (size_t i = 0; i < right.size(); ++i) CHECK(same(got[i], right[i]));
  CHECK_EQ(off->decode_graphs().replayed + off->decode_graphs().recorded + off->vision_graphs().recorded, 0);
  CHECK(off->decode_graphs().direct == 0);  // not even looked for
  CHECK(on->decode_graphs().recorded >= 4 && on->decode_graphs().replayed > on->decode_graphs().recorded);
  CHECK(on->vision_graphs().recorded >= 1 && on->vision_graphs().replayed >= 1);
  CHECK_EQ(on->decode_graphs().refused + on->vision_graphs().refused, 0);
}

TEST("pictures have the same features alone and together, with one between them that is given") {
  const std::unique_ptr<Engine> engine = open_engine(1);
  static uint64_t ticket = 1'000'000;
  const auto features_of = [&](std::vector<StepImage> images) {
    StepInput input;
    input.images = std::move(images);
    return std::move(engine->step(input, ++ticket).images);
  };
  std::vector<StepImage> images(4);
  for (size_t i = 0; i < images.size(); ++i) {
    images[i].return_features = true;
    if (i == 1) {
      images[i].features.assign(static_cast<size_t>(kTinyImageTokens * kTinyHidden), 0.5f);
      continue;
    }
    images[i].return_vision = true;
    images[i].pixels = tiny_pixels();
    for (float& value : images[i].pixels) value *= static_cast<float>(i + 1) / 4;
  }
  std::vector<StepImageResult> alone;
  for (const StepImage& image : images) alone.push_back(features_of({image})[0]);
  CHECK(alone[0].features != alone[2].features);
  for (int32_t again = 0; again < 3; ++again) {  // directly, recorded, replayed
    const std::vector<StepImageResult> together = features_of(images);
    for (size_t i = 0; i < images.size(); ++i) {
      CHECK(together[i].features == alone[i].features);
      CHECK(together[i].vision == alone[i].vision);
    }
  }
  CHECK_EQ(engine->vision_graphs().recorded, 2);  // of one picture, and of three
  CHECK_EQ(engine->vision_graphs().replayed, 2);
}

/** A gather of one row on the backend under test, as something to record. */
struct OneGather {
  OneGather()
      : backend(load_backend(HIMAP_ENGINE_FOLDER, HIMAP_ENGINE_BACKEND), DeviceOptions{0, DType::kBF16}), index(backend), in(backend),
        out(backend), other(backend), graphs(backend) {
    index.upload(std::vector<int32_t>{1});
    in.upload(std::vector<int32_t>{3, 4, 5});
    out.upload(std::vector<int32_t>{0});
  }
  Graphs::Operations gather(const std::function<void()>& extra = [] {}) {
    return [this, extra](const std::function<void()>&) {
      GatherParams params{.index = index.as<int32_t>(), .rows = 1, .n = 1, .arrays = {}};
      params.arrays[0] = {in.as<void>(), out.as<void>(), sizeof(int32_t)};
      backend.run(&BackendApi::gather, params);
      extra();
    };
  }
  /** What a run of `key` gathers from row `row`. */
  int32_t run(int64_t key, int32_t row, const std::function<void()>& extra = [] {}) {
    out.upload(std::vector<int32_t>{-1});
    index.upload(std::vector<int32_t>{row});
    graphs.run({key, 0}, gather(extra), [] {});
    int32_t value = 0;
    backend.download(&value, out.as<void>(), 1);
    return value;
  }
  Backend backend;
  Buffer index, in, out, other;
  Graphs graphs;
};

TEST("graphs: few are kept, and one whose memory has moved is recorded anew") {
  setenv("HIMAP_CUDA_GRAPHS", "on", 1);
  OneGather one;
  constexpr auto kKeys = static_cast<int64_t>(Graphs::kMost) + 8;
  for (int64_t key = 0; key < kKeys; ++key) {
    for (int32_t row = 0; row < 3; ++row) CHECK_EQ(one.run(key, row), 3 + row);
  }
  CHECK_EQ(one.graphs.counts().recorded, kKeys);
  CHECK_EQ(one.graphs.counts().replayed, kKeys);
  CHECK_EQ(one.run(0, 2), 5);  // made room long ago
  CHECK_EQ(one.graphs.counts().direct, kKeys + 1);
  CHECK_EQ(one.run(kKeys - 1, 1), 4);
  CHECK_EQ(one.graphs.counts().replayed, kKeys + 1);

  one.in.upload(std::vector<int32_t>(100'000, 7));  // where it was is no longer ours
  CHECK_EQ(one.run(kKeys - 1, 1), 7);
  CHECK_EQ(one.graphs.counts().recorded, kKeys + 1);
  CHECK_EQ(one.run(kKeys - 1, 2), 7);
  CHECK_EQ(one.graphs.counts().replayed, kKeys + 2);
}

TEST("graphs: what cannot be recorded is refused, runs directly, and leaves the device in order") {
  setenv("HIMAP_CUDA_GRAPHS", "on", 1);
  OneGather one;
  const auto uploads = [&] { one.other.upload(std::vector<int32_t>{1, 2}); };
  const auto throws = [&] {
    if (one.graphs.counts().direct == 4) throw std::bad_alloc();
  };
  for (int32_t row = 0; row < 3; ++row) CHECK_EQ(one.run(1, row, uploads), 3 + row);
  CHECK_EQ(one.graphs.counts().refused, 1);
  CHECK_EQ(one.graphs.counts().direct, 3);
  CHECK_EQ(one.run(2, 0, throws), 3);
  bool thrown = false;
  try {
    one.run(2, 0, throws);
  } catch (const std::bad_alloc&) {
    thrown = true;
  }
  CHECK(thrown);
  CHECK_EQ(one.run(3, 1), 4);
  CHECK_EQ(one.run(3, 2), 5);
  CHECK_EQ(one.graphs.counts().recorded, 1);
}

}  // namespace
}  // namespace himap::test

TEST_MAIN()
