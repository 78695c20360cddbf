// The decoder: its layers in reading order, about one line per operation. Prompts in decoder.cc, decode steps in decode.cc.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "native/engine/batch.h"
#include "native/engine/graphs.h"
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

  const GraphCounts& graph_counts() const { return graphs_.counts(); }

  /** Bytes of workspace for that many prefill rows. */
  static int64_t workspace_bytes(const ModelConfig& config, int64_t rows, int64_t activation_bytes);

 private:
  /** Where layers work, (rows, ...) activations each. A decode step has its own: what it records stays where it is. */
  struct Rows {
    explicit Rows(Backend& backend) : h(backend), x(backend), qkv(backend), attention(backend), ffn(backend) {}
    void reserve(const ModelConfig& config, int64_t rows, int64_t activation_bytes);

    Buffer h, x, qkv, attention, ffn;
  };

  void attention_input(const DecoderLayer& layer, Rows& at, int64_t rows, Phase phase);
  void feed_forward(const DecoderLayer& layer, Rows& at, int64_t rows, Phase phase);
  void compact(const PrefillBatch& batch, const Segment& from, const Segment& to, const SumsLayout& sums, size_t cut, bool with_attention);
  /** Logits of `last_rows`, (rows, hidden), into logits_. */
  void head(const void* last_rows, Rows& at, int64_t rows);
  /** The candidates of each sequence, out of its row of logits_. */
  void choose(const std::vector<const StepSequence*>& sequences, const std::vector<StepResult*>& results);

  Backend& backend_;
  const Model& model_;
  const KvPool& pool_;

  // A prompt's activations. The residual stream and what a cut gathers exist twice: from and to.
  Rows prefill_;
  Buffer h_cut_, attention_cut_;
  // Row metadata.
  Buffer source_, positions_, positions_cut_, votes_, votes_cut_, cu_rows_, row_sequence_, row_slot_, pages_;
  std::vector<Buffer> image_index_;  // per segment: read at the end of a prefill, so no cut waits for the host
  std::vector<Buffer> scores_;       // per cut
  // Column sums and selection.
  Buffer sums_, sums_columns_, sums_offsets_, selection_, ranks_, weights_, gather_index_;
  // The tail: last rows, logits, candidates.
  Buffer last_, logits_, adjust_start_, adjust_tokens_, adjust_add_, adjust_multiply_, masks_, mask_rows_, candidates_;
  // A decode step: activations, what its tables hold, and what has been recorded of it.
  Rows decode_;
  Buffer decode_rows_, decode_pages_;
  std::vector<int32_t> pages_on_device_;  // what decode_pages_ holds
  Graphs graphs_;
};

}  // namespace himap
