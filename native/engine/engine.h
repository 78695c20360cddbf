// A model on a device with its KV pool. Knows nothing of Node: the addon, the native tests and the replay runner all
// drive it. One thread at a time, except `interrupt`.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
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
   * Runs every sequence one step further. `ticket` numbers the steps in the order in which they were asked for.
   * Errors: ERR_INVALID_ARG (nothing has run), ERR_ABORTED (after `interrupt`), what the backend reports.
   */
  StepOutput step(const StepInput& input, uint64_t ticket);

  /** Every step with a ticket up to this one ends early with ERR_ABORTED. Any thread. */
  void interrupt(uint64_t ticket) { interrupted_.store(ticket); }

 private:
  Engine(const Manifest& manifest, const EngineOptions& options, const Model::Progress& progress);

  void check_input(const StepInput& input) const;
  void check_sequence(const StepSequence& sequence, size_t index, size_t images) const;
  void decode_bursts(const StepInput& input, std::vector<StepResult>& results, const std::function<void()>& check);

  Backend backend_;
  Model model_;
  KvPool pool_;
  Vision vision_;
  Decoder decoder_;
  Buffer features_;
  std::atomic<uint64_t> interrupted_{0};
};

/** Bytes of activations that a step of `rows` prefill rows and `images` images takes on the CPU. */
int64_t engine_workspace_bytes(const ModelConfig& config, int64_t rows, int64_t images);

}  // namespace himap
