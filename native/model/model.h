// The weights of a model on a device: matrices imported where they lie in the files, small vectors converted to
// float32, and the RoPE table.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "native/backend/backend.h"
#include "native/model/manifest.h"
#include "native/model/mapped_file.h"

namespace himap {

/** A vector of the model in float32 on the device. */
using Vector = Buffer;

struct NormWeights {
  Vector weight;
  Vector bias;  // empty for RMSNorm
};

struct VisionLayer {
  NormWeights norm1, norm2;
  WeightRef qkv, out, fc1, fc2;
  Vector qkv_bias, out_bias, fc1_bias, fc2_bias;
};

struct VisionWeights {
  WeightRef patches;          // (hidden, 3 * patch^2)
  Vector class_row;           // (hidden)
  Vector position_rows;       // (1 + patches, hidden)
  NormWeights pre_norm;
  std::vector<VisionLayer> layers;
  WeightRef projector1, projector2;
  Vector projector1_bias, projector2_bias;
};

struct DecoderLayer {
  NormWeights attention_norm, ffn_norm;
  WeightRef qkv, out, gate_up, down;
};

struct DecoderWeights {
  WeightRef embedding;  // (vocabulary, hidden)
  std::vector<DecoderLayer> layers;
  NormWeights norm;
  WeightRef head;   // (vocabulary, hidden)
  Vector cos, sin;  // (max positions, head_dim / 2)
};

class Model {
 public:
  using Progress = std::function<void(int64_t done, int64_t total)>;

  /** Maps (or copies) the files and imports every tensor. `progress` gets bytes of files and may throw to give up. */
  Model(Backend& backend, const Manifest& manifest, bool copy, const Progress& progress);

  const ModelConfig config;
  int64_t mapped_bytes = 0;  // used where they lie in the files
  int64_t memory_bytes = 0;  // copies of files, converted vectors, tables

 private:
  std::vector<std::unique_ptr<MappedFile>> files_;  // before the weights, which point into them

 public:
  const VisionWeights vision;
  const DecoderWeights decoder;
};

/** What `Model` will allocate beside the mapped files: converted vectors and the RoPE table, in bytes. */
int64_t model_vector_bytes(const ModelConfig& config);

}  // namespace himap
