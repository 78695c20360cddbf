#include "native/engine/engine.h"

#include "native/engine/burst.h"
#include "native/engine/check_input.h"

namespace himap {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/** What a card computes a checkpoint in: its own 16-bit type; bfloat16, whose range is float32's, for any other. */
DType half_type(const Manifest& manifest) {
  const auto head = manifest.tensors.find("lm_head.weight");
  return head != manifest.tensors.end() && head->second.type == DType::kF16 ? DType::kF16 : DType::kBF16;
}

/** The manifest, once it is known that the device's attention takes its heads: nothing has been read then. */
const Manifest& checked(const Manifest& manifest, const DeviceInfo& device, const std::string& backend) {
  const VisionConfig& vision = manifest.config.vision;
  const int64_t widest = std::max(manifest.config.head_dim, vision.hidden / vision.heads);
  require(widest <= device.head_dim_most, Code::ERR_UNSUPPORTED_MODEL,
          "[load] " + backend + " takes attention heads of at most " + std::to_string(device.head_dim_most) +
              " dimensions; the model has heads of " + std::to_string(widest));
  return manifest;
}

Model::Progress or_nothing(const Model::Progress& progress) {
  return progress ? progress : [](int64_t, int64_t) {};
}

}  // namespace

Engine::Engine(std::string_view manifest, const EngineOptions& options, const Model::Progress& progress)
    : Engine(parse_manifest(manifest), options, progress) {}

Engine::Engine(const Manifest& manifest, const EngineOptions& options, const Model::Progress& progress)
    : backend_(load_backend(options.library_folder, options.backend), DeviceOptions{options.threads, half_type(manifest)}, options.watchdog),
      model_(backend_, checked(manifest, backend_.info(), options.backend), options.copy_weights, or_nothing(progress)),
      pool_(backend_,
            KvLayout{options.kv_type, static_cast<int32_t>(model_.config.kv_heads), static_cast<int32_t>(model_.config.head_dim)},
            options.kv_pages),
      vision_(backend_, model_),
      decoder_(backend_, model_, pool_),
      features_(backend_) {}

EngineInfo Engine::info() const {
  return {backend_.info().threads, backend_.info().detail, model_.mapped_bytes, model_.memory_bytes, pool_.bytes()};
}

StepOutput Engine::step(const StepInput& input, uint64_t ticket, const OnTokens& on_tokens) {
  StepOutput output;
  if (ended_at_) output.timings.idle = milliseconds_since(*ended_at_);
  const struct AtEnd {
    Engine& engine;
    const uint64_t ticket;
    ~AtEnd() {
      engine.ended_at_ = Clock::now();
      engine.ended_.store(ticket);
    }
  } at_end{*this, ticket};

  check_input(input, model_.config, pool_.pages());
  const auto check = [&] {
    require(interrupted_.load() < ticket, Code::ERR_ABORTED, "[step] the step was interrupted");
  };
  const auto yielded = [&] { return yielded_.load() >= ticket; };
  check();
  output.images.resize(input.images.size());
  output.sequences.resize(input.sequences.size());
  for (const StepCopy& copy : input.copies) {
    backend_.call(&BackendApi::copy, pool_.page(copy.to), static_cast<const void*>(pool_.page(copy.from)),
                  static_cast<size_t>(pool_.layout().page_bytes()));
  }

  Clock::time_point start = Clock::now();
  const void* features = nullptr;
  if (!input.images.empty()) {
    const int64_t elements = static_cast<int64_t>(input.images.size()) * model_.config.image_tokens * model_.config.hidden;
    features = features_.reserve(static_cast<size_t>(elements * backend_.info().activation_bytes));
    vision_.encode(input.images, features_.as<void>(), output.images, check);
    backend_.wait();
    output.timings.vision = milliseconds_since(start);
  }

  Burst burst(input, model_.config.layers, output.sequences, on_tokens);
  if (!burst.prompts().empty()) {
    start = Clock::now();
    decoder_.prefill(burst.prompts(), features, burst.prompt_results(), check);
    burst.after_prefill(yielded());
    output.timings.prefill = milliseconds_since(start);
  }
  start = Clock::now();
  while (!burst.rows().empty()) {
    decoder_.decode(burst.rows(), burst.row_results(), check);
    burst.after_pass(yielded());
  }
  output.timings.decode = milliseconds_since(start);
  return output;
}

int64_t engine_workspace_bytes(const ModelConfig& config, int64_t rows, int64_t images) {
  constexpr int64_t kActivation = sizeof(float);  // of the CPU
  return Vision::workspace_bytes(config, images, kCpuImageBatch, kActivation) + Decoder::workspace_bytes(config, rows, kActivation);
}

}  // namespace himap
