#include "native/engine/vision.h"

#include <algorithm>
#include <cmath>

namespace himap {

Vision::Vision(Backend& backend, const Model& model)
    : backend_(backend), model_(model), pixels_(backend), rows_(backend), normed_(backend), qkv_(backend),
      attention_(backend), ffn_(backend), patches_(backend), features_(backend), cu_rows_(backend), index_(backend),
      graphs_(backend) {}

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
    if (static_cast<int64_t>(chunk.size()) == backend_.info().image_batch) flush();
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
  const auto n = static_cast<int64_t>(images.size());
  const int64_t per_image = vision.patches() + 1;  // class row first
  const int64_t rows = n * per_image;
  const int64_t tokens = config.image_tokens;
  const int64_t activation = backend_.info().activation_bytes;
  const auto room = [&](Buffer& buffer, int64_t row_count, int64_t columns) {
    buffer.reserve(static_cast<size_t>(row_count * columns * activation));
  };
  room(rows_, rows, vision.hidden);
  room(normed_, rows, vision.hidden);
  room(qkv_, rows, 3 * vision.hidden);
  room(attention_, rows, vision.hidden);
  room(ffn_, rows, vision.ffn);
  room(features_, n * tokens, config.hidden);

  const int64_t pixel_count = 3 * vision.image_size * vision.image_size;
  const size_t pixel_bytes = static_cast<size_t>(pixel_count) * sizeof(float);
  auto* pixels = static_cast<float*>(pixels_.reserve(static_cast<size_t>(n) * pixel_bytes));
  for (const StepImage* image : images) {
    backend_.call(&BackendApi::upload, pixels, image->pixels.data(), pixel_bytes);
    pixels += pixel_count;
  }
  std::vector<int32_t> cu_rows;
  for (int64_t i = 0; i <= n; ++i) cu_rows.push_back(static_cast<int32_t>(i * per_image));
  cu_rows_.upload(cu_rows);
  if (!vision.keep_class) {
    room(patches_, n * tokens, vision.hidden);
    std::vector<int32_t> index;
    for (int64_t row = 0; row < rows; ++row) {
      if (row % per_image != 0) index.push_back(static_cast<int32_t>(row));
    }
    index_.upload(index);
  }

  graphs_.run({n}, [&](const std::function<void()>& between) { tower(n, between); }, check);

  const Buffer& patches = vision.keep_class ? rows_ : patches_;
  for (int64_t i = 0; i < n; ++i) {
    if (!images[static_cast<size_t>(i)]->return_vision) continue;
    std::vector<float>& out = results[static_cast<size_t>(i)]->vision;
    out.resize(static_cast<size_t>(tokens * vision.hidden));
    backend_.download_activations(out.data(),
                 static_cast<const void*>(patches.as<char>() + i * tokens * vision.hidden * activation), tokens * vision.hidden);
  }

  // One product for each run of images whose features lie side by side.
  const int64_t image_bytes = tokens * config.hidden * activation;
  for (int64_t first = 0, end; first < n; first = end) {
    for (end = first + 1; end < n && outputs[static_cast<size_t>(end)] == outputs[static_cast<size_t>(first)] + (end - first) * image_bytes;) ++end;
    backend_.run(&BackendApi::linear,
                 LinearParams{.x = features_.as<char>() + first * image_bytes, .weight = model_.vision.projector2.get(),
                              .maybe_bias = model_.vision.projector2_bias.as<float>(), .maybe_residual = nullptr,
                              .y = outputs[static_cast<size_t>(first)], .rows = (end - first) * tokens, .phase = Phase::kPrefill,
                              .epilogue = Epilogue::kNone});
  }
}

void Vision::tower(int64_t images, const std::function<void()>& between) {
  const ModelConfig& config = model_.config;
  const VisionConfig& vision = config.vision;
  const VisionWeights& weights = model_.vision;
  const int64_t per_image = vision.patches() + 1;
  const int64_t rows = images * per_image;
  const int64_t width = vision.hidden;
  const int64_t activation = backend_.info().activation_bytes;
  void* h = rows_.as<void>();               // (rows, width) residual stream
  void* x = normed_.as<void>();             // (rows, width)
  void* qkv = qkv_.as<void>();              // (rows, 3 width)
  void* attention = attention_.as<void>();  // (rows, width)
  void* ffn = ffn_.as<void>();              // (rows, ffn)

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
               PatchEmbedParams{.pixels = pixels_.as<float>(), .weight = weights.patches.get(), .class_row = weights.class_row.as<float>(),
                                .position_rows = weights.position_rows.as<float>(), .y = h, .images = images,
                                .side = static_cast<int32_t>(vision.image_size), .patch = static_cast<int32_t>(vision.patch_size),
                                .width = static_cast<int32_t>(width)});
  layer_norm(h, weights.pre_norm, h);
  for (const VisionLayer& layer : weights.layers) {
    between();
    layer_norm(h, layer.norm1, x);
    linear(x, layer.qkv, layer.qkv_bias, nullptr, qkv, rows, Epilogue::kNone);
    const auto head_dim = static_cast<int32_t>(width / vision.heads);
    backend_.run(&BackendApi::attention_prefill,
                 AttentionPrefillParams{.qkv = qkv, .y = attention, .cu_rows = cu_rows_.as<int32_t>(), .sequences = static_cast<int32_t>(images),
                                        .max_rows = static_cast<int32_t>(per_image), .heads = static_cast<int32_t>(vision.heads),
                                        .kv_heads = static_cast<int32_t>(vision.heads), .head_dim = head_dim,
                                        .scale = 1.0f / std::sqrt(static_cast<float>(head_dim)), .causal = false,
                                        .maybe_column_sums = nullptr});
    linear(attention, layer.out, layer.out_bias, h, h, rows, Epilogue::kNone);
    layer_norm(h, layer.norm2, x);
    linear(x, layer.fc1, layer.fc1_bias, nullptr, ffn, rows, vision.quick_gelu ? Epilogue::kQuickGelu : Epilogue::kGelu);
    linear(ffn, layer.fc2, layer.fc2_bias, h, h, rows, Epilogue::kNone);
  }
  between();

  // The class row is dropped unless the family keeps it.
  const int64_t kept = images * config.image_tokens;
  if (!vision.keep_class) {
    GatherParams gather{.index = index_.as<int32_t>(), .rows = kept, .n = 1, .arrays = {}};
    gather.arrays[0] = {h, patches_.as<void>(), width * activation};
    backend_.run(&BackendApi::gather, gather);
  }
  linear(vision.keep_class ? h : patches_.as<void>(), weights.projector1, weights.projector1_bias, nullptr, features_.as<void>(), kept,
         Epilogue::kGelu);
}

int64_t Vision::workspace_bytes(const ModelConfig& config, int64_t images, int64_t at_once, int64_t activation_bytes) {
  const VisionConfig& vision = config.vision;
  const int64_t n = std::min(images, at_once);
  const int64_t rows = n * (vision.patches() + 1);
  const int64_t per_row = 6 * vision.hidden + vision.ffn;
  const int64_t per_token = vision.hidden + config.hidden;
  const int64_t pixels = 3 * vision.image_size * vision.image_size * static_cast<int64_t>(sizeof(float));
  // Every image's features, for the decoder; pixels on the device and the copy that is uploaded.
  return (rows * per_row + n * config.image_tokens * per_token + images * config.image_tokens * config.hidden) * activation_bytes +
         2 * n * pixels;
}

}  // namespace himap
