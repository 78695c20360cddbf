// A model on a device with its KV pool. Knows nothing of Node: the addon, the native tests and the replay runner all
// drive it. One thread at a time, except `interrupt` and `yield`.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "native/engine/decoder.h"
#include "native/engine/step.h"
#include "native/engine/vision.h"
#include "native/kv/pool.h"
#include "native/model/model.h"

namespace himap {

struct EngineOptions {
  std::string library_folder;  // where libhimap-<backend>.so lies
  std::string backend = "cpu";
  int32_t threads = 0;         // 0: one per processor
  bool copy_weights = false;
  DType kv_type = DType::kF32;
  int64_t kv_pages = 0;
  std::chrono::milliseconds watchdog = kWatchdog;
};

struct EngineInfo {
  int32_t threads;
  std::string simd;
  int64_t mapped_bytes;
  int64_t weight_bytes;
  int64_t kv_bytes;
};

class Engine {
 public:
  /** Opens a model; `progress` gets bytes read and in all, and may throw to give up. */
  Engine(std::string_view manifest, const EngineOptions& options, const Model::Progress& progress);

  EngineInfo info() const;

  /**
   * Runs every sequence one step further. `ticket` numbers the steps from 1, in the order in which they were asked for.
   * `on_tokens` (or none) gets what each pass gave; what it throws ends the step.
   * Errors: ERR_INVALID_ARG (nothing has run), ERR_ABORTED (after `interrupt`), what the backend reports.
   */
  StepOutput step(const StepInput& input, uint64_t ticket, const OnTokens& on_tokens = nullptr);

  /** What has been recorded and replayed of decode steps, and of the vision tower. */
  const GraphCounts& decode_graphs() const { return decoder_.graph_counts(); }
  const GraphCounts& vision_graphs() const { return vision_.graph_counts(); }

  /** Every step with a ticket up to this one ends early with ERR_ABORTED. Any thread. */
  void interrupt(uint64_t ticket) { interrupted_.store(ticket); }

  /** The first step that has not ended, if its ticket is at most `last`, ends at its next token. Any thread. */
  void yield(uint64_t last) { yielded_.store(std::min(ended_.load() + 1, last)); }

 private:
  Engine(const Manifest& manifest, const EngineOptions& options, const Model::Progress& progress);

  Backend backend_;
  Model model_;
  KvPool pool_;
  Vision vision_;
  Decoder decoder_;
  Buffer features_;
  std::atomic<uint64_t> interrupted_{0};
  std::atomic<uint64_t> yielded_{0};
  std::atomic<uint64_t> ended_{0};
  std::optional<std::chrono::steady_clock::time_point> ended_at_;
};

/** Bytes of activations that a step of `rows` prefill rows and `images` images takes on the CPU. */
int64_t engine_workspace_bytes(const ModelConfig& config, int64_t rows, int64_t images);

}  // namespace himap
