#include "native/engine/vision.h"

#include <algorithm>
#include <cmath>

namespace himap {

Vision::Vision(Backend& backend, const Model& model)
    : backend_(backend), model_(model), pixels_(backend), rows_(backend), normed_(backend), qkv_(backend),
      attention_(backend), ffn_(backend), patches_(backend), features_(backend), cu_rows_(backend), index_(backend) {}

void Vision::encode(const std::vector<StepImage>& images, void* features, std::vector<StepImageResult>& results,
                    const std::function<void()>& check) {
  const ModelConfig& config = model_.config;
  const int64_t elements = config.image_tokens * config.hidden;
  const int64_t bytes = elements * backend_.info().activation_bytes;
  std::vector<const StepImage*> chunk;
  std::vector<char*> outputs;
  std::vector<StepImageResult*> chunk_results;
  const auto flush = [&] {
    if (!chunk.empty()) encode_chunk(chunk, outputs, chunk_results, check);
    chunk.clear();
    outputs.clear();
    chunk_results.clear();
  };
  for (size_t i = 0; i < images.size(); ++i) {
    char* output = static_cast<char*>(features) + static_cast<int64_t>(i) * bytes;
    if (!images[i].features.empty()) {
      backend_.call(&BackendApi::upload_activations, output, images[i].features.data(), elements);
      continue;
    }
    chunk.push_back(&images[i]);
    outputs.push_back(output);
    chunk_results.push_back(&results[i]);
    if (chunk.size() == kImagesAtOnce) flush();
  }
  flush();
  for (size_t i = 0; i < images.size(); ++i) {
    if (!images[i].return_features) continue;
    results[i].features.resize(static_cast<size_t>(elements));
    backend_.download_activations(results[i].features.data(),
                 static_cast<const void*>(static_cast<char*>(features) + static_cast<int64_t>(i) * bytes), elements);
  }
}

void Vision::encode_chunk(const std::vector<const StepImage*>& images, const std::vector<char*>& outputs,
                          const std::vector<StepImageResult*>& results, const std::function<void()>& check) {
  const ModelConfig& config = model_.config;
  const VisionConfig& vision = config.vision;
  const VisionWeights& weights = model_.vision;
  const auto n = static_cast<int64_t>(images.size());
  const int64_t per_image = vision.patches() + 1;  // class row first
  const int64_t rows = n * per_image;
  const int64_t width = vision.hidden;
  const int64_t activation = backend_.info().activation_bytes;
  const auto room = [&](Buffer& buffer, int64_t row_count, int64_t columns) {
    return buffer.reserve(static_cast<size_t>(row_count * columns * activation));
  };

  const int64_t pixel_count = 3 * vision.image_size * vision.image_size;
  std::vector<float> all_pixels;
  all_pixels.reserve(static_cast<size_t>(n * pixel_count));
  for (const StepImage* image : images) all_pixels.insert(all_pixels.end(), image->pixels.begin(), image->pixels.end());
  const float* pixels = pixels_.upload(all_pixels);

  std::vector<int32_t> cu_rows;
  for (int64_t i = 0; i <= n; ++i) cu_rows.push_back(static_cast<int32_t>(i * per_image));
  const int32_t* device_cu_rows = cu_rows_.upload(cu_rows);

  void* h = room(rows_, rows, width);                    // (rows, width) residual stream
  void* x = room(normed_, rows, width);                  // (rows, width)
  void* qkv = room(qkv_, rows, 3 * width);               // (rows, 3 width)
  void* attention = room(attention_, rows, width);       // (rows, width)
  void* ffn = room(ffn_, rows, vision.ffn);              // (rows, ffn)

  const auto layer_norm = [&](const void* from, const NormWeights& norm, void* to) {
    backend_.run(&BackendApi::norm, NormParams{.x = from, .weight = norm.weight.as<float>(), .maybe_bias = norm.bias.as<float>(),
                                               .y = to, .rows = rows, .width = width, .eps = vision.eps});
  };
  const auto linear = [&](const void* from, const WeightRef& weight, const Buffer& bias, const void* residual, void* to,
                          int64_t row_count, Epilogue epilogue) {
    backend_.run(&BackendApi::linear,
                 LinearParams{.x = from, .weight = weight.get(), .maybe_bias = bias.as<float>(), .maybe_residual = residual,
                              .y = to, .rows = row_count, .phase = Phase::kPrefill, .epilogue = epilogue});
  };

  backend_.run(&BackendApi::patch_embed,
               PatchEmbedParams{.pixels = pixels, .weight = weights.patches.get(), .class_row = weights.class_row.as<float>(),
                                .position_rows = weights.position_rows.as<float>(), .y = h, .images = n,
                                .side = static_cast<int32_t>(vision.image_size), .patch = static_cast<int32_t>(vision.patch_size),
                                .width = static_cast<int32_t>(width)});
  layer_norm(h, weights.pre_norm, h);
  for (const VisionLayer& layer : weights.layers) {
    check();
    layer_norm(h, layer.norm1, x);
    linear(x, layer.qkv, layer.qkv_bias, nullptr, qkv, rows, Epilogue::kNone);
    const auto head_dim = static_cast<int32_t>(width / vision.heads);
    backend_.run(&BackendApi::attention_prefill,
                 AttentionPrefillParams{.qkv = qkv, .y = attention, .cu_rows = device_cu_rows, .sequences = static_cast<int32_t>(n),
                                        .max_rows = static_cast<int32_t>(per_image), .heads = static_cast<int32_t>(vision.heads),
                                        .kv_heads = static_cast<int32_t>(vision.heads), .head_dim = head_dim,
                                        .scale = 1.0f / std::sqrt(static_cast<float>(head_dim)), .causal = false,
                                        .maybe_column_sums = nullptr});
    linear(attention, layer.out, layer.out_bias, h, h, rows, Epilogue::kNone);
    layer_norm(h, layer.norm2, x);
    linear(x, layer.fc1, layer.fc1_bias, nullptr, ffn, rows, vision.quick_gelu ? Epilogue::kQuickGelu : Epilogue::kGelu);
    linear(ffn, layer.fc2, layer.fc2_bias, h, h, rows, Epilogue::kNone);
  }
  check();

  // The class row is dropped unless the family keeps it.
  const int64_t tokens = config.image_tokens;
  const void* patches = h;
  if (!vision.keep_class) {
    std::vector<int32_t> index;
    for (int64_t row = 0; row < rows; ++row) {
      if (row % per_image != 0) index.push_back(static_cast<int32_t>(row));
    }
    GatherParams gather{.index = index_.upload(index), .rows = n * tokens, .n = 1, .arrays = {}};
    gather.arrays[0] = {h, room(patches_, n * tokens, width), width * activation};
    backend_.run(&BackendApi::gather, gather);
    patches = patches_.as<void>();
  }
  for (int64_t i = 0; i < n; ++i) {
    if (!images[static_cast<size_t>(i)]->return_vision) continue;
    std::vector<float>& out = results[static_cast<size_t>(i)]->vision;
    out.resize(static_cast<size_t>(tokens * width));
    backend_.download_activations(out.data(),
                 static_cast<const void*>(static_cast<const char*>(patches) + i * tokens * width * activation), tokens * width);
  }

  void* projected = room(features_, n * tokens, config.hidden);
  linear(patches, weights.projector1, weights.projector1_bias, nullptr, projected, n * tokens, Epilogue::kGelu);
  for (int64_t i = 0; i < n; ++i) {
    linear(static_cast<char*>(projected) + i * tokens * config.hidden * activation, weights.projector2,
           weights.projector2_bias, nullptr, outputs[static_cast<size_t>(i)], tokens, Epilogue::kNone);
  }
}

int64_t Vision::workspace_bytes(const ModelConfig& config, int64_t images, int64_t activation_bytes) {
  const VisionConfig& vision = config.vision;
  const int64_t n = std::min(images, kImagesAtOnce);
  const int64_t rows = n * (vision.patches() + 1);
  const int64_t per_row = 6 * vision.hidden + vision.ffn;
  const int64_t per_token = vision.hidden + config.hidden;
  const int64_t pixels = 3 * vision.image_size * vision.image_size * static_cast<int64_t>(sizeof(float));
  // Every image's features, for the decoder; pixels on the device and the copy that is uploaded.
  return (rows * per_row + n * config.image_tokens * per_token + images * config.image_tokens * config.hidden) * activation_bytes +
         2 * n * pixels;
}

}  // namespace himap
