#include "test/native/tiny_model.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <stdexcept>

#include "native/prune/plan.h"

namespace himap::test {
namespace {

constexpr int64_t kHeads = 2;
constexpr int64_t kKvHeads = 1;
constexpr int64_t kHeadDim = 8;
constexpr int64_t kFfn = 12;
constexpr int64_t kVisionHidden = 16;
constexpr int64_t kVisionFfn = 20;
constexpr int64_t kVisionLayers = 1;
constexpr int64_t kVisionHeads = 2;
constexpr int64_t kPatch = 2;

struct TinyTensor {
  std::string name;
  std::vector<int64_t> shape;

  int64_t elements() const {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    return count;
  }
};

std::vector<TinyTensor> tensors() {
  std::vector<TinyTensor> list;
  const auto with_bias = [&](const std::string& name, int64_t out, int64_t in) {
    list.push_back({name + ".weight", {out, in}});
    list.push_back({name + ".bias", {out}});
  };
  const auto layer_norm = [&](const std::string& name) {
    list.push_back({name + ".weight", {kVisionHidden}});
    list.push_back({name + ".bias", {kVisionHidden}});
  };
  list.push_back({"vision_tower.embeddings.patch_embedding.weight", {kVisionHidden, 3, kPatch, kPatch}});
  list.push_back({"vision_tower.embeddings.class_embedding", {kVisionHidden}});
  list.push_back({"vision_tower.embeddings.position_embedding.weight", {1 + kTinyImageTokens, kVisionHidden}});
  layer_norm("vision_tower.pre_layrnorm");
  for (int64_t layer = 0; layer < kVisionLayers; ++layer) {
    const std::string prefix = "vision_tower.encoder.layers." + std::to_string(layer) + ".";
    layer_norm(prefix + "layer_norm1");
    layer_norm(prefix + "layer_norm2");
    for (const char* part : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
      with_bias(prefix + "self_attn." + part, kVisionHidden, kVisionHidden);
    }
    with_bias(prefix + "mlp.fc1", kVisionFfn, kVisionHidden);
    with_bias(prefix + "mlp.fc2", kVisionHidden, kVisionFfn);
  }
  with_bias("multi_modal_projector.linear_1", kTinyHidden, kVisionHidden);
  with_bias("multi_modal_projector.linear_2", kTinyHidden, kTinyHidden);
  list.push_back({"language_model.embed_tokens.weight", {kTinyVocabulary, kTinyHidden}});
  list.push_back({"language_model.norm.weight", {kTinyHidden}});
  list.push_back({"lm_head.weight", {kTinyVocabulary, kTinyHidden}});
  for (int64_t layer = 0; layer < kTinyLayers; ++layer) {
    const std::string prefix = "language_model.layers." + std::to_string(layer) + ".";
    list.push_back({prefix + "input_layernorm.weight", {kTinyHidden}});
    list.push_back({prefix + "post_attention_layernorm.weight", {kTinyHidden}});
    list.push_back({prefix + "self_attn.q_proj.weight", {kHeads * kHeadDim, kTinyHidden}});
    list.push_back({prefix + "self_attn.k_proj.weight", {kKvHeads * kHeadDim, kTinyHidden}});
    list.push_back({prefix + "self_attn.v_proj.weight", {kKvHeads * kHeadDim, kTinyHidden}});
    list.push_back({prefix + "self_attn.o_proj.weight", {kTinyHidden, kHeads * kHeadDim}});
    list.push_back({prefix + "mlp.gate_proj.weight", {kFfn, kTinyHidden}});
    list.push_back({prefix + "mlp.up_proj.weight", {kFfn, kTinyHidden}});
    list.push_back({prefix + "mlp.down_proj.weight", {kTinyHidden, kFfn}});
  }
  return list;
}

int memory_file(int64_t bytes) {
  const int descriptor = memfd_create("himap-test", MFD_CLOEXEC);
  if (descriptor < 0 || ftruncate(descriptor, bytes) != 0) throw std::runtime_error("a file in memory could not be made");
  return descriptor;
}

constexpr int32_t kTextBefore = 3;
constexpr int32_t kTextAfter = 4;
constexpr int32_t kPromptRows = kTextBefore + static_cast<int32_t>(kTinyImageTokens) + kTextAfter;
constexpr int64_t kPagesPerLayer = 2;

std::vector<StepCut> tiny_cuts() {
  StepCut first;
  first.before = 1;
  first.keep = 5;
  StepCut second;
  second.before = 2;
  second.keep = 2;
  second.voters = Voters::kImage;
  second.heads_max = true;
  return {first, second};
}

std::vector<Stage> tiny_stages() {
  PlanJob job{.layers = kTinyLayers, .length = kPromptRows, .image_tokens = kTinyImageTokens, .new_tokens = 0, .cuts = {}};
  for (const StepCut& cut : tiny_cuts()) job.cuts.push_back({cut.before, cut.keep});
  return plan_stages(job);
}

/** Three stages of one layer each. */
std::vector<StepStage> step_stages(bool decode, int32_t first_page) {
  std::vector<StepStage> stages;
  for (const Stage& stage : tiny_stages()) {
    StepStage& own = stages.emplace_back();
    own.cached = decode ? stage.tokens : 0;
    own.blocks = kPagesPerLayer;
    for (int64_t i = 0; i < kPagesPerLayer; ++i) own.pages.push_back(first_page++);
  }
  return stages;
}

StepSampling tiny_sampling() {
  StepSampling sampling;
  sampling.temperature = 0.7;
  sampling.top_p = 0.9;
  sampling.seed[0] = 7;
  return sampling;
}

}  // namespace

MemoryFile::MemoryFile(const std::vector<uint8_t>& bytes) : descriptor_(memory_file(static_cast<int64_t>(bytes.size()))) {
  if (pwrite(descriptor_, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    throw std::runtime_error("a file in memory could not be written");
  }
}

MemoryFile::MemoryFile(int64_t bytes) : descriptor_(memory_file(bytes)) {}

MemoryFile::~MemoryFile() { close(descriptor_); }

std::vector<uint8_t> tiny_weights() {
  std::vector<float> values;
  uint32_t state = 1;
  for (const TinyTensor& tensor : tensors()) {
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      state = state * 1664525 + 1013904223;
      values.push_back((static_cast<float>(state >> 8) / (1 << 24) - 0.5f) * 0.8f);
    }
  }
  std::vector<uint8_t> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::string tiny_manifest(const std::string& path) {
  std::string text = "himap-manifest 1\n";
  const auto config = [&](const char* key, const std::string& value) { text += std::string("config ") + key + " " + value + "\n"; };
  config("hidden", std::to_string(kTinyHidden));
  config("ffn", std::to_string(kFfn));
  config("layers", std::to_string(kTinyLayers));
  config("heads", std::to_string(kHeads));
  config("kvHeads", std::to_string(kKvHeads));
  config("headDim", std::to_string(kHeadDim));
  config("vocabulary", std::to_string(kTinyVocabulary));
  config("rmsEps", "0.00001");
  config("ropeTheta", "10000");
  config("maxPositions", std::to_string(kTinyPositions));
  config("imageTokens", std::to_string(kTinyImageTokens));
  config("vision.hidden", std::to_string(kVisionHidden));
  config("vision.ffn", std::to_string(kVisionFfn));
  config("vision.layers", std::to_string(kVisionLayers));
  config("vision.heads", std::to_string(kVisionHeads));
  config("vision.imageSize", std::to_string(kTinyImageSide));
  config("vision.patchSize", std::to_string(kPatch));
  config("vision.eps", "0.00001");
  config("vision.activation", "quick_gelu");
  config("vision.keepClass", "false");
  std::string lines;
  int64_t offset = 0;
  for (const TinyTensor& tensor : tensors()) {
    const int64_t bytes = tensor.elements() * static_cast<int64_t>(sizeof(float));
    lines += "tensor " + tensor.name + " F32 0 " + std::to_string(offset) + " " + std::to_string(bytes);
    for (const int64_t size : tensor.shape) lines += " " + std::to_string(size);
    lines += "\n";
    offset += bytes;
  }
  return text + "file " + std::to_string(offset) + " " + path + "\n" + lines + "end\n";
}

StepSequence tiny_prompt(int64_t burst, int32_t first_page) {
  StepSequence sequence;
  for (int32_t row = 0; row < kPromptRows; ++row) {
    const bool image = row >= kTextBefore && row < kTextBefore + kTinyImageTokens;
    sequence.ids.push_back(image ? -1 : 1 + row);
    sequence.positions.push_back(row);
  }
  sequence.spans = {{kTextBefore, kTinyImageTokens, 0}};
  sequence.cuts = tiny_cuts();
  sequence.stages = step_stages(false, first_page);
  sequence.burst = burst;
  sequence.sampling = tiny_sampling();
  return sequence;
}

StepSequence tiny_decode(int32_t id, int64_t burst, int32_t first_page) {
  StepSequence sequence;
  sequence.phase = Phase::kDecode;
  sequence.ids = {id};
  sequence.positions = {kPromptRows};
  sequence.stages = step_stages(true, first_page);
  sequence.burst = burst;
  sequence.sampling = tiny_sampling();
  return sequence;
}

std::vector<float> tiny_pixels() {
  std::vector<float> pixels(static_cast<size_t>(3 * kTinyImageSide * kTinyImageSide));
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>(i % 17) / 8 - 1;
  return pixels;
}

}  // namespace himap::test
