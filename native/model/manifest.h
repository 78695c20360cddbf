// The manifest: a model's numbers and where each tensor lies, written by lib/checkpoint/manifest.ts (or by hand for the
// replay runner). It is foreign data: parse_manifest checks every number before anything is mapped or allocated.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/types.h"

namespace himap {

struct VisionConfig {
  int64_t hidden = 0;
  int64_t ffn = 0;
  int64_t layers = 0;  // layers that are run
  int64_t heads = 0;
  int64_t image_size = 0;  // pixels
  int64_t patch_size = 0;  // pixels
  float eps = 0;
  bool quick_gelu = true;  // false: GELU (erf)
  bool keep_class = false;

  int64_t grid() const { return image_size / patch_size; }
  int64_t patches() const { return grid() * grid(); }
};

struct ModelConfig {
  int64_t hidden = 0;
  int64_t ffn = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t vocabulary = 0;
  float rms_eps = 0;
  double rope_theta = 0;
  int64_t max_positions = 0;
  int64_t image_tokens = 0;  // rows that one image takes
  VisionConfig vision;

  int64_t q_width() const { return heads * head_dim; }
  int64_t kv_width() const { return kv_heads * head_dim; }
  int64_t qkv_width() const { return q_width() + 2 * kv_width(); }
};

struct TensorSpec {
  DType type;
  std::vector<int64_t> shape;
  int64_t file;    // index into Manifest::files
  int64_t offset;  // bytes from the start of the file
  int64_t bytes;
};

struct FileSpec {
  std::string path;
  int64_t bytes;
};

struct Manifest {
  ModelConfig config;
  std::vector<FileSpec> files;
  std::unordered_map<std::string, TensorSpec> tensors;  // by canonical name

  /** The tensor of that name; ERR_TENSOR_MISSING, or ERR_TENSOR_SHAPE unless it has exactly this shape. */
  const TensorSpec& tensor(const std::string& name, const std::vector<int64_t>& shape) const;
};

/** Throws ERR_BAD_CHECKPOINT, naming the line, for anything that is not a manifest within the limits. */
Manifest parse_manifest(std::string_view text);

}  // namespace himap
