#include "test/native/made_model.h"

#include <sys/mman.h>
#include <unistd.h>

#include <sstream>
#include <stdexcept>

namespace himap::test {
namespace {

int memory_file(int64_t bytes) {
  const int descriptor = memfd_create("himap-test", MFD_CLOEXEC);
  if (descriptor < 0 || ftruncate(descriptor, bytes) != 0) throw std::runtime_error("a file in memory could not be made");
  return descriptor;
}

const char* type_name(DType type) { return type == DType::kF32 ? "F32" : type == DType::kF16 ? "F16" : "BF16"; }

}  // namespace

MemoryFile::MemoryFile(const std::vector<uint8_t>& bytes) : descriptor_(memory_file(static_cast<int64_t>(bytes.size()))) {
  if (pwrite(descriptor_, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    throw std::runtime_error("a file in memory could not be written");
  }
}

MemoryFile::MemoryFile(int64_t bytes) : descriptor_(memory_file(bytes)) {}

MemoryFile::~MemoryFile() { close(descriptor_); }

int64_t MadeTensor::elements() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

std::vector<MadeTensor> tensors_of(const ModelConfig& config) {
  const VisionConfig& vision = config.vision;
  std::vector<MadeTensor> list;
  const auto with_bias = [&](const std::string& name, int64_t out, int64_t in) {
    list.push_back({name + ".weight", {out, in}});
    list.push_back({name + ".bias", {out}});
  };
  const auto layer_norm = [&](const std::string& name) {
    list.push_back({name + ".weight", {vision.hidden}});
    list.push_back({name + ".bias", {vision.hidden}});
  };
  list.push_back({"vision_tower.embeddings.patch_embedding.weight", {vision.hidden, 3, vision.patch_size, vision.patch_size}});
  list.push_back({"vision_tower.embeddings.class_embedding", {vision.hidden}});
  list.push_back({"vision_tower.embeddings.position_embedding.weight", {1 + vision.patches(), vision.hidden}});
  layer_norm("vision_tower.pre_layrnorm");
  for (int64_t layer = 0; layer < vision.layers; ++layer) {
    const std::string prefix = "vision_tower.encoder.layers." + std::to_string(layer) + ".";
    layer_norm(prefix + "layer_norm1");
    layer_norm(prefix + "layer_norm2");
    for (const char* part : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
      with_bias(prefix + "self_attn." + part, vision.hidden, vision.hidden);
    }
    with_bias(prefix + "mlp.fc1", vision.ffn, vision.hidden);
    with_bias(prefix + "mlp.fc2", vision.hidden, vision.ffn);
  }
  with_bias("multi_modal_projector.linear_1", config.hidden, vision.hidden);
  with_bias("multi_modal_projector.linear_2", config.hidden, config.hidden);
  list.push_back({"language_model.embed_tokens.weight", {config.vocabulary, config.hidden}});
  list.push_back({"language_model.norm.weight", {config.hidden}});
  list.push_back({"lm_head.weight", {config.vocabulary, config.hidden}});
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string prefix = "language_model.layers." + std::to_string(layer) + ".";
    list.push_back({prefix + "input_layernorm.weight", {config.hidden}});
    list.push_back({prefix + "post_attention_layernorm.weight", {config.hidden}});
    list.push_back({prefix + "self_attn.q_proj.weight", {config.q_width(), config.hidden}});
    list.push_back({prefix + "self_attn.k_proj.weight", {config.kv_width(), config.hidden}});
    list.push_back({prefix + "self_attn.v_proj.weight", {config.kv_width(), config.hidden}});
    list.push_back({prefix + "self_attn.o_proj.weight", {config.hidden, config.q_width()}});
    list.push_back({prefix + "mlp.gate_proj.weight", {config.ffn, config.hidden}});
    list.push_back({prefix + "mlp.up_proj.weight", {config.ffn, config.hidden}});
    list.push_back({prefix + "mlp.down_proj.weight", {config.hidden, config.ffn}});
  }
  return list;
}

std::string manifest_of(const ModelConfig& config, const std::string& path, int64_t file_bytes,
                        const std::function<Place(const MadeTensor&)>& place) {
  const VisionConfig& vision = config.vision;
  std::ostringstream text;
  text << "himap-manifest 1\n"
       << "config hidden " << config.hidden << "\nconfig ffn " << config.ffn << "\nconfig layers " << config.layers
       << "\nconfig heads " << config.heads << "\nconfig kvHeads " << config.kv_heads << "\nconfig headDim " << config.head_dim
       << "\nconfig vocabulary " << config.vocabulary << "\nconfig rmsEps " << config.rms_eps << "\nconfig ropeTheta "
       << config.rope_theta << "\nconfig maxPositions " << config.max_positions << "\nconfig imageTokens " << config.image_tokens
       << "\nconfig vision.hidden " << vision.hidden << "\nconfig vision.ffn " << vision.ffn << "\nconfig vision.layers "
       << vision.layers << "\nconfig vision.heads " << vision.heads << "\nconfig vision.imageSize " << vision.image_size
       << "\nconfig vision.patchSize " << vision.patch_size << "\nconfig vision.eps " << vision.eps
       << "\nconfig vision.activation " << (vision.quick_gelu ? "quick_gelu" : "gelu") << "\nconfig vision.keepClass "
       << (vision.keep_class ? "true" : "false") << "\nfile " << file_bytes << " " << path << "\n";
  for (const MadeTensor& tensor : tensors_of(config)) {
    const Place at = place(tensor);
    text << "tensor " << tensor.name << " " << type_name(at.type) << " 0 " << at.offset << " "
         << dtype_bytes(at.type, tensor.elements());
    for (const int64_t size : tensor.shape) text << " " << size;
    text << "\n";
  }
  text << "end\n";
  return text.str();
}

}  // namespace himap::test
