#include "native/model/manifest.h"

#include <charconv>

#include "native/core/number.h"
#include "native/core/status.h"

namespace himap {
namespace {

// Above these no LLaVA-class model lies, and below them no product of two sizes overflows 63 bits.
constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxPositions = 1 << 24;
constexpr int64_t kMaxImageSide = 1 << 14;
constexpr int64_t kMaxRopeAngles = 1 << 27;  // 512 MB of tables, which no byte of any file stands for
constexpr int64_t kMaxFileBytes = int64_t{1} << 50;
constexpr size_t kMaxTensors = 100'000;
constexpr size_t kMaxFiles = 10'000;
constexpr size_t kMaxName = 1024;
constexpr size_t kMaxRank = 8;

/** Splits a line at single spaces. */
class Fields {
 public:
  Fields(std::string_view line, int64_t number) : rest_(line), number_(number) {}

  bool empty() const { return rest_.empty(); }

  std::string_view next(const char* what) {
    if (rest_.empty()) bad(std::string("expected ") + what + " but the line ends");
    const size_t space = rest_.find(' ');
    const std::string_view field = rest_.substr(0, space);
    rest_ = space == std::string_view::npos ? std::string_view() : rest_.substr(space + 1);
    if (field.empty()) bad(std::string("expected ") + what + " but received nothing");
    return field;
  }

  int64_t integer(const char* what, int64_t least, int64_t most) {
    const std::string_view field = next(what);
    int64_t value = 0;
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
    if (error != std::errc() || end != field.data() + field.size() || value < least || value > most) {
      bad(std::string("expected an integer from ") + std::to_string(least) + " to " + std::to_string(most) + " for " +
          what + " but received " + std::string(field.substr(0, 64)));
    }
    return value;
  }

  double real(const char* what, int64_t least, int64_t most) {
    const std::string field(next(what).substr(0, 64));
    const std::optional<double> value = parse_number(field);
    if (!value || !(*value >= static_cast<double>(least) && *value <= static_cast<double>(most))) {
      bad(std::string("expected a number from ") + std::to_string(least) + " to " + std::to_string(most) + " for " +
          what + " but received " + field);
    }
    return *value;
  }

  [[noreturn]] void bad(const std::string& message) const {
    fail(Code::ERR_BAD_CHECKPOINT, "[manifest] line " + std::to_string(number_) + ": " + message);
  }

 private:
  std::string_view rest_;
  int64_t number_;
};

std::string unescape(std::string_view text, const Fields& fields) {
  const auto digit = [&](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    fields.bad("expected two hexadecimal digits after % in a path");
  };
  std::string path;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      path += text[i];
      continue;
    }
    if (i + 2 >= text.size()) fields.bad("expected two hexadecimal digits after % in a path");
    const int byte = digit(text[i + 1]) * 16 + digit(text[i + 2]);
    if (byte == 0) fields.bad("expected a path without a zero byte");
    path += static_cast<char>(byte);
    i += 2;
  }
  return path;
}

/** Where a config key goes: every key exactly once. */
class ConfigReader {
 public:
  explicit ConfigReader(ModelConfig& config) : config_(config) {}

  void read(Fields& fields) {
    const std::string key(fields.next("a config key"));
    VisionConfig& vision = config_.vision;
    if (!seen_.emplace(key, true).second) fields.bad("config " + key + " stands twice");
    if (key == "hidden") config_.hidden = fields.integer("hidden", 8, kMaxWidth);
    else if (key == "ffn") config_.ffn = fields.integer("ffn", 1, kMaxWidth);
    else if (key == "layers") config_.layers = fields.integer("layers", 1, kMaxLayers);
    else if (key == "heads") config_.heads = fields.integer("heads", 1, kMaxWidth);
    else if (key == "kvHeads") config_.kv_heads = fields.integer("kvHeads", 1, kMaxWidth);
    else if (key == "headDim") config_.head_dim = fields.integer("headDim", 8, 1024);
    else if (key == "vocabulary") config_.vocabulary = fields.integer("vocabulary", 1, 1 << 24);
    else if (key == "rmsEps") config_.rms_eps = static_cast<float>(fields.real("rmsEps", 0, 1));
    else if (key == "ropeTheta") config_.rope_theta = fields.real("ropeTheta", 1, 1'000'000'000'000);
    else if (key == "maxPositions") config_.max_positions = fields.integer("maxPositions", 1, kMaxPositions);
    else if (key == "imageTokens") config_.image_tokens = fields.integer("imageTokens", 1, kMaxWidth);
    else if (key == "vision.hidden") vision.hidden = fields.integer("vision.hidden", 8, kMaxWidth);
    else if (key == "vision.ffn") vision.ffn = fields.integer("vision.ffn", 1, kMaxWidth);
    else if (key == "vision.layers") vision.layers = fields.integer("vision.layers", 0, kMaxLayers);
    else if (key == "vision.heads") vision.heads = fields.integer("vision.heads", 1, kMaxWidth);
    else if (key == "vision.imageSize") vision.image_size = fields.integer("vision.imageSize", 1, kMaxImageSide);
    else if (key == "vision.patchSize") vision.patch_size = fields.integer("vision.patchSize", 1, kMaxImageSide);
    else if (key == "vision.eps") vision.eps = static_cast<float>(fields.real("vision.eps", 0, 1));
    else if (key == "vision.activation") {
      const std::string_view name = fields.next("vision.activation");
      if (name != "quick_gelu" && name != "gelu") fields.bad("expected quick_gelu or gelu for vision.activation");
      vision.quick_gelu = name == "quick_gelu";
    } else if (key == "vision.keepClass") {
      const std::string_view value = fields.next("vision.keepClass");
      if (value != "true" && value != "false") fields.bad("expected true or false for vision.keepClass");
      vision.keep_class = value == "true";
    } else {
      fields.bad("unknown config key " + key.substr(0, 64));
    }
  }

  /** What must hold between the numbers. */
  void check() const {
    const auto must = [](bool holds, const std::string& message) {
      require(holds, Code::ERR_BAD_CHECKPOINT, "[manifest] " + message);
    };
    constexpr size_t kKeys = 20;
    must(seen_.size() == kKeys, "expected " + std::to_string(kKeys) + " config keys but received " + std::to_string(seen_.size()));
    const VisionConfig& vision = config_.vision;
    must(config_.head_dim % 8 == 0, "headDim must be a multiple of 8; got " + std::to_string(config_.head_dim));
    must(config_.heads % config_.kv_heads == 0, "heads must be a multiple of kvHeads");
    must(config_.qkv_width() <= 4 * kMaxWidth, "heads times headDim is too large");
    must(config_.max_positions * config_.head_dim <= kMaxRopeAngles, "maxPositions times headDim is too large");
    must(vision.hidden % vision.heads == 0 && vision.hidden / vision.heads % 8 == 0,
         "vision.hidden divided by vision.heads must be a multiple of 8");
    must(vision.image_size % vision.patch_size == 0, "vision.imageSize must be a multiple of vision.patchSize");
    must(config_.image_tokens == vision.patches() + (vision.keep_class ? 1 : 0),
         "imageTokens must be what the vision tower hands on");
  }

 private:
  ModelConfig& config_;
  std::unordered_map<std::string, bool> seen_;
};

DType parse_type(Fields& fields) {
  const std::string_view name = fields.next("a weight type");
  if (name == "F32") return DType::kF32;
  if (name == "F16") return DType::kF16;
  if (name == "BF16") return DType::kBF16;
  fields.bad("expected F32, F16 or BF16 for a weight type but received " + std::string(name.substr(0, 64)));
}

void read_tensor(Manifest& manifest, Fields& fields) {
  const std::string name(fields.next("a tensor name"));
  if (name.size() > kMaxName) fields.bad("a tensor name is longer than 1,024 bytes");
  TensorSpec tensor;
  tensor.type = parse_type(fields);
  tensor.file = fields.integer("a file index", 0, static_cast<int64_t>(manifest.files.size()) - 1);
  tensor.offset = fields.integer("an offset", 0, kMaxFileBytes);
  tensor.bytes = fields.integer("a size in bytes", 0, kMaxFileBytes);
  int64_t elements = 1;
  while (!fields.empty()) {
    if (tensor.shape.size() == kMaxRank) fields.bad("a tensor has more than 8 dimensions");
    const int64_t size = fields.integer("a dimension", 1, int64_t{1} << 40);
    if (__builtin_mul_overflow(elements, size, &elements) || elements > kMaxFileBytes) fields.bad("a tensor is too large");
    tensor.shape.push_back(size);
  }
  if (tensor.bytes != dtype_bytes(tensor.type, elements)) fields.bad("the size of " + name + " is not that of its shape and type");
  if (tensor.bytes > manifest.files[tensor.file].bytes - tensor.offset) fields.bad(name + " ends beyond its file");
  if (manifest.tensors.size() == kMaxTensors) fields.bad("there are more than 100,000 tensors");
  if (!manifest.tensors.emplace(name, std::move(tensor)).second) fields.bad("tensor " + name + " stands twice");
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace

const TensorSpec& Manifest::tensor(const std::string& name, const std::vector<int64_t>& shape) const {
  const auto found = tensors.find(name);
  require(found != tensors.end(), Code::ERR_TENSOR_MISSING, "[manifest] tensor " + name + " is missing");
  require(found->second.shape == shape, Code::ERR_TENSOR_SHAPE,
          "[manifest] " + name + " must have shape " + shape_text(shape) + "; got " + shape_text(found->second.shape));
  return found->second;
}

Manifest parse_manifest(std::string_view text) {
  Manifest manifest;
  ConfigReader config(manifest.config);
  bool ended = false;
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t newline = text.find('\n');
    const std::string_view line = text.substr(0, newline);
    text = newline == std::string_view::npos ? std::string_view() : text.substr(newline + 1);
    Fields fields(line, number);
    if (ended) fields.bad("expected nothing after end");
    const std::string_view kind = fields.next("a keyword");
    if (number == 1) {
      if (kind != "himap-manifest" || fields.integer("a version", 1, 1) != 1) fields.bad("expected himap-manifest 1");
    } else if (kind == "config") {
      config.read(fields);
    } else if (kind == "file") {
      if (manifest.files.size() == kMaxFiles) fields.bad("there are more than 10,000 files");
      const int64_t bytes = fields.integer("a size in bytes", 0, kMaxFileBytes);
      manifest.files.push_back({unescape(fields.next("a path"), fields), bytes});
    } else if (kind == "tensor") {
      read_tensor(manifest, fields);
    } else if (kind == "end") {
      ended = true;
    } else {
      fields.bad("unknown keyword " + std::string(kind.substr(0, 64)));
    }
    if (!fields.empty()) fields.bad("expected the end of the line");
  }
  require(ended, Code::ERR_BAD_CHECKPOINT, "[manifest] the last line is not end");
  config.check();
  return manifest;
}

}  // namespace himap
