#include "bench/cuda/floors.h"

#include <algorithm>

namespace himap::bench {
namespace {

constexpr double kElementBytes = 2;

Floor floor_of(const Work& work, const Ceilings& ceilings, double times = 1) {
  return {times * floor_seconds(work, ceilings), times * work.flops, times * work.bytes, times * work.stored_bytes};
}

std::vector<Stage> stages_of(const ModelConfig& config, int64_t text, const std::vector<PlanCut>& cuts) {
  return plan_stages({.layers = config.layers, .length = text + config.image_tokens, .image_tokens = config.image_tokens,
                      .new_tokens = 0, .cuts = cuts});
}

int64_t rows_of_layer(const std::vector<Stage>& stages, int64_t layer) { return stages[stage_of(stages, layer)].tokens; }

}  // namespace

Floor& Floor::operator+=(const Floor& other) {
  seconds += other.seconds;
  flops += other.flops;
  bytes += other.bytes;
  stored_bytes += other.stored_bytes;
  return *this;
}

double floor_seconds(const Work& work, const Ceilings& ceilings) {
  return std::max(work.flops / ceilings.flops_per_second, work.bytes / ceilings.bytes_per_second);
}

Work linear_work(int64_t rows, int64_t out, int64_t in) {
  const auto m = static_cast<double>(rows), n = static_cast<double>(out), k = static_cast<double>(in);
  return {2 * m * n * k, kElementBytes * (n * k + m * k + m * n), kElementBytes * n * k};
}

Work prefill_attention_work(int64_t rows, int64_t heads, int64_t kv_heads, int64_t head_dim, bool causal) {
  const auto s = static_cast<double>(rows), q = static_cast<double>(heads * head_dim),
             kv = static_cast<double>(kv_heads * head_dim);
  const double pairs = causal ? s * (s + 1) / 2 : s * s;
  return {4 * pairs * q, kElementBytes * s * (2 * q + 2 * kv)};
}

Work decode_attention_work(int64_t length, int64_t heads, int64_t kv_heads, int64_t head_dim) {
  const auto tokens = static_cast<double>(length);
  const double cached = kElementBytes * tokens * 2 * static_cast<double>(kv_heads * head_dim);
  return {4 * tokens * static_cast<double>(heads * head_dim), cached, cached};
}

std::vector<Matrix> decoder_matrices(const ModelConfig& config) {
  return {{"qkv", config.qkv_width(), config.hidden},
          {"o", config.hidden, config.q_width()},
          {"gate+up", 2 * config.ffn, config.hidden},
          {"down", config.hidden, config.ffn}};
}

std::vector<Matrix> tower_matrices(const VisionConfig& vision) {
  return {{"tower qkv", 3 * vision.hidden, vision.hidden},
          {"tower out", vision.hidden, vision.hidden},
          {"tower fc1", vision.ffn, vision.hidden},
          {"tower fc2", vision.hidden, vision.ffn}};
}

std::vector<Matrix> projector_matrices(const ModelConfig& config) {
  return {{"projector 1", config.hidden, config.vision.hidden}, {"projector 2", config.hidden, config.hidden}};
}

Floor tower_floor(const ModelConfig& config, int64_t images, const Ceilings& ceilings) {
  const VisionConfig& vision = config.vision;
  const int64_t rows = images * (vision.patches() + 1);
  const auto layers = static_cast<double>(vision.layers);
  Floor floor;
  for (const Matrix& matrix : tower_matrices(vision)) floor += floor_of(linear_work(rows, matrix.out, matrix.in), ceilings, layers);
  Work attention = prefill_attention_work(vision.patches() + 1, vision.heads, vision.heads, vision.hidden / vision.heads, false);
  attention.bytes = 0;
  floor += floor_of(attention, ceilings, layers * static_cast<double>(images));
  Work patches = linear_work(images * vision.patches(), vision.hidden, 3 * vision.patch_size * vision.patch_size);
  patches.bytes = patches.stored_bytes = 0;
  floor += floor_of(patches, ceilings);
  return floor;
}

Floor projector_floor(const ModelConfig& config, int64_t images, const Ceilings& ceilings) {
  const int64_t rows = images * config.image_tokens;
  Floor floor;
  for (const Matrix& matrix : projector_matrices(config)) floor += floor_of(linear_work(rows, matrix.out, matrix.in), ceilings);
  return floor;
}

Floor prefill_floor(const ModelConfig& config, int64_t batch, int64_t text, const std::vector<PlanCut>& cuts,
                    const Ceilings& ceilings) {
  const std::vector<Stage> stages = stages_of(config, text, cuts);
  const std::vector<Matrix> matrices = decoder_matrices(config);
  Floor floor;
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const int64_t rows = rows_of_layer(stages, layer);
    const int64_t after = layer + 1 < config.layers ? rows_of_layer(stages, layer + 1) : rows;
    for (size_t m = 0; m < matrices.size(); ++m) {
      floor += floor_of(linear_work(batch * (m == 0 ? rows : after), matrices[m].out, matrices[m].in), ceilings);
    }
    floor += floor_of(prefill_attention_work(rows, config.heads, config.kv_heads, config.head_dim, true), ceilings,
                      static_cast<double>(batch));
  }
  const auto head = static_cast<double>(config.vocabulary * config.hidden);
  floor += floor_of({2 * static_cast<double>(batch) * head, kElementBytes * head, kElementBytes * head}, ceilings);
  return floor;
}

Floor decode_floor(const ModelConfig& config, int64_t batch, int64_t text, const std::vector<PlanCut>& cuts, int64_t generated,
                   const Ceilings& ceilings) {
  const std::vector<Stage> stages = stages_of(config, text, cuts);
  Floor floor;
  for (const Matrix& matrix : decoder_matrices(config)) {
    floor += floor_of(linear_work(batch, matrix.out, matrix.in), ceilings, static_cast<double>(config.layers));
  }
  floor += floor_of(linear_work(batch, config.vocabulary, config.hidden), ceilings);
  Work attention;
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const Work one =
        decode_attention_work(rows_of_layer(stages, layer) + generated, config.heads, config.kv_heads, config.head_dim);
    attention.flops += static_cast<double>(batch) * one.flops;
    attention.bytes += static_cast<double>(batch) * one.bytes;
    attention.stored_bytes += static_cast<double>(batch) * one.stored_bytes;
  }
  floor += floor_of(attention, ceilings);
  return floor;
}

}  // namespace himap::bench
