// The decoder: its layers in reading order, about one line per operation.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "native/engine/batch.h"
#include "native/kv/pool.h"
#include "native/model/model.h"

namespace himap {

class Decoder {
 public:
  Decoder(Backend& backend, const Model& model, const KvPool& pool);

  /**
   * Runs whole prompts, cuts included; writes their KV and the candidates of each last row.
   * `features`: (images * image tokens, hidden) activations. `check` is called before each layer and may throw.
   */
  void prefill(const std::vector<const StepSequence*>& sequences, const void* features,
               const std::vector<StepResult*>& results, const std::function<void()>& check);

  /** One new row per sequence: `ids` and `positions` (rows), `cached` tokens per sequence and stage. */
  struct DecodeRow {
    const StepSequence* sequence;
    int32_t id;
    int32_t position;
    std::vector<int64_t> cached;  // per stage
  };
  void decode(const std::vector<DecodeRow>& rows, const std::vector<StepResult*>& results, const std::function<void()>& check);

  /** Bytes of workspace for that many prefill rows. */
  static int64_t workspace_bytes(const ModelConfig& config, int64_t rows, int64_t activation_bytes);

 private:
  void attention_input(const DecoderLayer& layer, int64_t rows, Phase phase);
  void feed_forward(const DecoderLayer& layer, int64_t rows, Phase phase);
  void compact(const PrefillBatch& batch, const Segment& from, const Segment& to, const SumsLayout& sums, size_t cut, bool with_attention);
  void finish(const std::vector<const StepSequence*>& sequences, const void* last_rows, const std::vector<StepResult*>& results);

  Backend& backend_;
  const Model& model_;
  const KvPool& pool_;

  // Activations: (rows, ...) of the batch. The residual stream and what a cut gathers exist twice: from and to.
  Buffer h_, h_cut_, x_, qkv_, attention_, attention_cut_, ffn_;
  // Row metadata.
  Buffer source_, positions_, positions_cut_, votes_, votes_cut_, cu_rows_, row_sequence_, row_slot_, pages_;
  std::vector<Buffer> image_index_;  // per segment: read at the end of a prefill, so no cut waits for the host
  std::vector<Buffer> scores_;       // per cut
  // Column sums and selection.
  Buffer sums_, sums_columns_, sums_offsets_, selection_, ranks_, weights_, gather_index_;
  // The tail: last rows, logits, candidates.
  Buffer last_, logits_, adjust_start_, adjust_tokens_, adjust_add_, adjust_multiply_, masks_, mask_rows_, ids_, best_, lse_;
  Buffer lengths_;
};

}  // namespace himap
