#include "bench/cuda/models.h"

#include <algorithm>
#include <cstring>

namespace himap::bench {
namespace {

ModelConfig llava(int64_t hidden, int64_t layers, int64_t heads, int64_t ffn) {
  ModelConfig config;
  config.hidden = hidden;
  config.ffn = ffn;
  config.layers = layers;
  config.heads = config.kv_heads = heads;
  config.head_dim = hidden / heads;
  config.vocabulary = 32'064;
  config.rms_eps = 1e-5f;
  config.rope_theta = 10'000;
  config.max_positions = 4096;
  config.image_tokens = 576;
  config.vision = {.hidden = 1024, .ffn = 4096, .layers = 23, .heads = 16, .image_size = 336, .patch_size = 14, .eps = 1e-5f,
                   .quick_gelu = true, .keep_class = false};
  return config;
}

// The block: random bf16 for every matrix, row table and bias, then ones in F32 for the scales of norms.
constexpr int64_t kWindowSpread = 4 << 20;  // windows of one size start at as many different places as this allows
constexpr int64_t kWindowStep = 4096;

bool is_scale(const test::MadeTensor& tensor) {
  return tensor.shape.size() == 1 && (tensor.name.find("norm") != std::string::npos) &&
         tensor.name.compare(tensor.name.size() - 7, 7, ".weight") == 0;
}

int64_t largest_bytes(const ModelConfig& config) {
  int64_t most = 0;
  for (const test::MadeTensor& tensor : test::tensors_of(config)) most = std::max(most, 2 * tensor.elements());
  return (most + kWindowStep - 1) / kWindowStep * kWindowStep;
}

std::vector<uint8_t> block(int64_t window_bytes, int64_t ones) {
  const std::vector<uint16_t> numbers = random_bf16(window_bytes / 2, 1);
  const std::vector<float> scales(static_cast<size_t>(ones), 1.0f);
  std::vector<uint8_t> bytes(numbers.size() * 2 + scales.size() * sizeof(float));
  std::memcpy(bytes.data(), numbers.data(), numbers.size() * 2);
  std::memcpy(bytes.data() + numbers.size() * 2, scales.data(), scales.size() * sizeof(float));
  return bytes;
}

int64_t scale_elements(const ModelConfig& config) { return std::max(config.hidden, config.vision.hidden); }

}  // namespace

ModelConfig llava_7b() { return llava(4096, 32, 32, 11'008); }
ModelConfig llava_13b() { return llava(5120, 40, 40, 13'824); }

ModelConfig llava_tiny() {
  ModelConfig config = llava(64, 3, 2, 96);
  config.vocabulary = 96;
  config.max_positions = 192;
  config.image_tokens = 16;
  config.vision = {.hidden = 32, .ffn = 48, .layers = 1, .heads = 2, .image_size = 16, .patch_size = 4, .eps = 1e-5f,
                   .quick_gelu = true, .keep_class = false};
  return config;
}

std::vector<PlanCut> himap_cuts(const ModelConfig& config) {
  const bool deep = config.layers > 8;
  const int64_t half = config.image_tokens / 2;
  return {{deep ? 2 : 1, half}, {deep ? 8 : 2, half / 4}};
}

std::vector<uint16_t> random_bf16(int64_t elements, uint64_t seed) {
  constexpr uint64_t kSigns = 0x8000'8000'8000'8000, kFractions = 0x00ff'00ff'00ff'00ff, kExponents = 0x3c00'3c00'3c00'3c00;
  std::vector<uint16_t> numbers(static_cast<size_t>((elements + 3) / 4 * 4));
  uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  for (size_t i = 0; i < numbers.size(); i += 4) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    const uint64_t four = ((state * 0x2545f4914f6cdd1du) & (kSigns | kFractions)) | kExponents;
    std::memcpy(numbers.data() + i, &four, sizeof(four));
  }
  numbers.resize(static_cast<size_t>(elements));
  return numbers;
}

RandomModel::RandomModel(const ModelConfig& config)
    : config_(config), window_bytes_(largest_bytes(config) + kWindowSpread), file_(block(window_bytes_, scale_elements(config))) {
  int64_t turn = 0;
  const auto place = [&](const test::MadeTensor& tensor) -> test::Place {
    if (is_scale(tensor)) return {DType::kF32, window_bytes_};
    if (tensor.shape.size() > 1) matrix_bytes_ += 2 * tensor.elements();
    const int64_t bytes = (2 * tensor.elements() + kWindowStep - 1) / kWindowStep * kWindowStep;
    const int64_t places = (window_bytes_ - bytes) / kWindowStep + 1;
    return {DType::kBF16, turn++ * 7919 % places * kWindowStep};  // a prime step: neighbours differ
  };
  manifest_ = test::manifest_of(config_, file_.path(), window_bytes_ + scale_elements(config_) * 4, place);
}

}  // namespace himap::bench
