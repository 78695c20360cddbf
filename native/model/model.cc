#include "native/model/model.h"

#include <cmath>
#include <cstring>
#include <string>

// The oldest version of pow: the one that glibc 2.29 brought differs in errno alone, and would keep the binary from glibc 2.28.
#if defined(__GLIBC__) && defined(__x86_64__)
__asm__(".symver pow, pow@GLIBC_2.2.5");
#elif defined(__GLIBC__) && defined(__aarch64__)
__asm__(".symver pow, pow@GLIBC_2.17");
#endif

namespace himap {
namespace {

float half_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 31;
  const uint32_t fraction = bits & 1023;
  if (exponent == 0) {  // zero and subnormals: fraction * 2^-24
    const float value = std::ldexp(static_cast<float>(fraction), -24);
    return sign ? -value : value;
  }
  const uint32_t wide = sign | (exponent == 31 ? 0x7F800000u : (exponent + 112) << 23) | fraction << 13;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

void to_float(const uint8_t* from, DType type, int64_t elements, float* to) {
  if (type == DType::kF32) {
    std::memcpy(to, from, static_cast<size_t>(elements) * 4);
    return;
  }
  for (int64_t i = 0; i < elements; ++i) {
    uint16_t bits;
    std::memcpy(&bits, from + 2 * i, 2);
    if (type == DType::kF16) {
      to[i] = half_to_float(bits);
    } else {
      const uint32_t wide = static_cast<uint32_t>(bits) << 16;
      std::memcpy(to + i, &wide, 4);
    }
  }
}

std::vector<std::unique_ptr<MappedFile>> open_files(const Manifest& manifest, bool copy, const Model::Progress& progress) {
  int64_t total = 0;
  for (const FileSpec& file : manifest.files) total += file.bytes;
  std::vector<std::unique_ptr<MappedFile>> files;
  int64_t before = 0;
  for (const FileSpec& file : manifest.files) {
    files.push_back(std::make_unique<MappedFile>(file.path, file.bytes, copy,
                                                 [&](int64_t done) { progress(before + done, total); }));
    before += file.bytes;
  }
  return files;
}

/** Fetches tensors by name and shape and puts them on the device. */
class Loader {
 public:
  Loader(Backend& backend, const Manifest& manifest, const std::vector<std::unique_ptr<MappedFile>>& files)
      : backend_(backend), manifest_(manifest), files_(files) {}

  WeightRef matrix(const std::string& name, int64_t out, int64_t in) {
    return WeightRef(backend_, {part(name, {out, in})}, WeightLayout::kStacked);
  }

  struct Named {
    std::string name;
    int64_t out;
  };
  WeightRef stacked(const std::vector<Named>& parts, int64_t in, WeightLayout layout = WeightLayout::kStacked) {
    std::vector<WeightPart> list;
    for (const Named& named : parts) list.push_back(part(named.name, {named.out, in}));
    return WeightRef(backend_, list, layout);
  }

  WeightRef patches(const std::string& name, int64_t hidden, int64_t side) {
    WeightPart whole = part(name, {hidden, 3, side, side});
    whole.out = hidden;
    whole.in = 3 * side * side;
    return WeightRef(backend_, {whole}, WeightLayout::kStacked);
  }

  Vector vector(const std::string& name, const std::vector<int64_t>& shape) {
    return floats(values(name, shape));
  }
  Vector joined(const std::vector<std::string>& names, int64_t each) {
    std::vector<float> all;
    for (const std::string& name : names) {
      const std::vector<float> one = values(name, {each});
      all.insert(all.end(), one.begin(), one.end());
    }
    return floats(all);
  }
  Vector floats(const std::vector<float>& list) {
    Vector buffer(backend_);
    buffer.upload(list);
    bytes += static_cast<int64_t>(list.size() * sizeof(float));
    return buffer;
  }

  NormWeights rms_norm(const std::string& name, int64_t width) {
    return {vector(name + ".weight", {width}), Vector(backend_)};
  }
  NormWeights layer_norm(const std::string& name, int64_t width) {
    return {vector(name + ".weight", {width}), vector(name + ".bias", {width})};
  }

  int64_t bytes = 0;  // allocated for vectors

 private:
  WeightPart part(const std::string& name, const std::vector<int64_t>& shape) {
    const TensorSpec& tensor = manifest_.tensor(name, shape);
    return {files_[tensor.file]->data() + tensor.offset, tensor.type, shape[0], shape.size() > 1 ? shape[1] : 1};
  }
  std::vector<float> values(const std::string& name, const std::vector<int64_t>& shape) {
    const TensorSpec& tensor = manifest_.tensor(name, shape);
    int64_t elements = 1;
    for (const int64_t size : shape) elements *= size;
    std::vector<float> list(static_cast<size_t>(elements));
    to_float(files_[tensor.file]->data() + tensor.offset, tensor.type, elements, list.data());
    return list;
  }

  Backend& backend_;
  const Manifest& manifest_;
  const std::vector<std::unique_ptr<MappedFile>>& files_;
};

VisionLayer load_vision_layer(Loader& load, const VisionConfig& config, int64_t index) {
  const std::string prefix = "vision_tower.encoder.layers." + std::to_string(index) + ".";
  const std::string attention = prefix + "self_attn.";
  const int64_t width = config.hidden;
  return {
      load.layer_norm(prefix + "layer_norm1", width),
      load.layer_norm(prefix + "layer_norm2", width),
      load.stacked({{attention + "q_proj.weight", width}, {attention + "k_proj.weight", width}, {attention + "v_proj.weight", width}}, width),
      load.matrix(attention + "out_proj.weight", width, width),
      load.matrix(prefix + "mlp.fc1.weight", config.ffn, width),
      load.matrix(prefix + "mlp.fc2.weight", width, config.ffn),
      load.joined({attention + "q_proj.bias", attention + "k_proj.bias", attention + "v_proj.bias"}, width),
      load.vector(attention + "out_proj.bias", {width}),
      load.vector(prefix + "mlp.fc1.bias", {config.ffn}),
      load.vector(prefix + "mlp.fc2.bias", {width}),
  };
}

VisionWeights load_vision(Loader& load, const ModelConfig& model) {
  const VisionConfig& config = model.vision;
  const int64_t width = config.hidden;
  VisionWeights weights{
      load.patches("vision_tower.embeddings.patch_embedding.weight", width, config.patch_size),
      load.vector("vision_tower.embeddings.class_embedding", {width}),
      load.vector("vision_tower.embeddings.position_embedding.weight", {1 + config.patches(), width}),
      load.layer_norm("vision_tower.pre_layrnorm", width),  // the misspelling is the checkpoint's
      {},
      load.matrix("multi_modal_projector.linear_1.weight", model.hidden, width),
      load.matrix("multi_modal_projector.linear_2.weight", model.hidden, model.hidden),
      load.vector("multi_modal_projector.linear_1.bias", {model.hidden}),
      load.vector("multi_modal_projector.linear_2.bias", {model.hidden}),
  };
  for (int64_t layer = 0; layer < config.layers; ++layer) weights.layers.push_back(load_vision_layer(load, config, layer));
  return weights;
}

DecoderLayer load_decoder_layer(Loader& load, const ModelConfig& config, int64_t index) {
  const std::string prefix = "language_model.layers." + std::to_string(index) + ".";
  const std::string attention = prefix + "self_attn.";
  return {
      load.rms_norm(prefix + "input_layernorm", config.hidden),
      load.rms_norm(prefix + "post_attention_layernorm", config.hidden),
      load.stacked({{attention + "q_proj.weight", config.q_width()},
                    {attention + "k_proj.weight", config.kv_width()},
                    {attention + "v_proj.weight", config.kv_width()}},
                   config.hidden),
      load.matrix(attention + "o_proj.weight", config.hidden, config.q_width()),
      load.stacked({{prefix + "mlp.gate_proj.weight", config.ffn}, {prefix + "mlp.up_proj.weight", config.ffn}},
                   config.hidden, WeightLayout::kGateUp),
      load.matrix(prefix + "mlp.down_proj.weight", config.hidden, config.ffn),
  };
}

/** cos or sin of position * theta^(-2i / head_dim), the angle in float32 as in the reference implementation. */
std::vector<float> rope_table(const ModelConfig& config, double (*function)(double)) {
  const int64_t half = config.head_dim / 2;
  std::vector<float> table(static_cast<size_t>(config.max_positions * half));
  for (int64_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
    const float frequency = 1.0f / static_cast<float>(std::pow(config.rope_theta, static_cast<double>(exponent)));
    for (int64_t position = 0; position < config.max_positions; ++position) {
      const float angle = static_cast<float>(position) * frequency;
      table[static_cast<size_t>(position * half + i)] = static_cast<float>(function(static_cast<double>(angle)));
    }
  }
  return table;
}

DecoderWeights load_decoder(Loader& load, const ModelConfig& config) {
  DecoderWeights weights{
      load.matrix("language_model.embed_tokens.weight", config.vocabulary, config.hidden),
      {},
      load.rms_norm("language_model.norm", config.hidden),
      load.matrix("lm_head.weight", config.vocabulary, config.hidden),
      load.floats(rope_table(config, std::cos)),
      load.floats(rope_table(config, std::sin)),
  };
  for (int64_t layer = 0; layer < config.layers; ++layer) weights.layers.push_back(load_decoder_layer(load, config, layer));
  return weights;
}

}  // namespace

Model::Model(Backend& backend, const Manifest& manifest, bool copy, const Progress& progress)
    : config(manifest.config),
      files_(open_files(manifest, copy, progress)),
      vision([&] {
        Loader load(backend, manifest, files_);
        VisionWeights weights = load_vision(load, config);
        memory_bytes += load.bytes;
        return weights;
      }()),
      decoder([&] {
        Loader load(backend, manifest, files_);
        DecoderWeights weights = load_decoder(load, config);
        memory_bytes += load.bytes;
        return weights;
      }()) {
  for (const auto& file : files_) (copy ? memory_bytes : mapped_bytes) += file->bytes();
}

int64_t model_vector_bytes(const ModelConfig& config) {
  const VisionConfig& vision = config.vision;
  const int64_t vision_layer = 4 * vision.hidden + 3 * vision.hidden + vision.hidden + vision.ffn + vision.hidden;
  const int64_t vision_floats = vision.hidden + (1 + vision.patches()) * vision.hidden + 2 * vision.hidden +
                                vision.layers * vision_layer + 2 * config.hidden;
  const int64_t decoder_floats = config.hidden + config.layers * 2 * config.hidden + config.max_positions * config.head_dim;
  return (vision_floats + decoder_floats) * static_cast<int64_t>(sizeof(float));
}

}  // namespace himap
