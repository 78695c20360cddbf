#include "native/engine/decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "native/engine/study.h"

namespace himap {

void Decoder::Rows::reserve(const ModelConfig& config, int64_t rows, int64_t activation_bytes) {
  const auto room = [&](Buffer& buffer, int64_t columns) { buffer.reserve(static_cast<size_t>(rows * columns * activation_bytes)); };
  room(h, config.hidden);
  room(x, config.hidden);
  room(qkv, config.qkv_width());
  room(attention, config.q_width());
  room(ffn, config.ffn);
}

Decoder::Decoder(Backend& backend, const Model& model, const KvPool& pool)
    : backend_(backend), model_(model), pool_(pool), prefill_(backend), h_cut_(backend), attention_cut_(backend), source_(backend),
      positions_(backend), positions_cut_(backend), votes_(backend), votes_cut_(backend), cu_rows_(backend),
      row_sequence_(backend), row_slot_(backend), pages_(backend), sums_(backend), sums_columns_(backend), sums_offsets_(backend),
      selection_(backend), ranks_(backend), weights_(backend), gather_index_(backend), last_(backend), logits_(backend),
      adjust_start_(backend), adjust_tokens_(backend), adjust_add_(backend), adjust_multiply_(backend), masks_(backend),
      mask_rows_(backend), candidates_(backend), decode_(backend), decode_rows_(backend), decode_pages_(backend), graphs_(backend) {}

namespace {

/** Pages of a segment's layers: (layers, sequences, blocks), every sequence's table padded to the widest. */
std::vector<int32_t> segment_pages(const PrefillBatch& batch, const Segment& segment, int64_t& blocks) {
  blocks = 1;
  const auto stage = [&](size_t s) { return stage_of(batch.stages[s], segment.first); };
  for (size_t s = 0; s < batch.sequences.size(); ++s) blocks = std::max(blocks, batch.sequences[s]->stages[stage(s)].blocks);
  std::vector<int32_t> pages;
  for (int64_t layer = segment.first; layer < segment.end; ++layer) {
    for (size_t s = 0; s < batch.sequences.size(); ++s) {
      const StepStage& own = batch.sequences[s]->stages[stage(s)];
      const auto first = own.pages.begin() + (layer - batch.stages[s][stage(s)].first) * own.blocks;
      pages.insert(pages.end(), first, first + own.blocks);
      pages.resize(pages.size() + static_cast<size_t>(blocks - own.blocks), 0);
    }
  }
  return pages;
}

}  // namespace

void Decoder::prefill(const std::vector<const StepSequence*>& sequences, const void* features,
                      const std::vector<StepResult*>& results, const std::function<void()>& check) {
  const ModelConfig& config = model_.config;
  const int64_t activation = backend_.info().activation_bytes;
  const PrefillBatch batch = make_prefill_batch(sequences, config.layers, config.image_tokens);
  const auto most_rows = static_cast<int64_t>(batch.source.size());  // no segment has more than the first
  prefill_.reserve(config, most_rows, activation);

  const bool study = std::any_of(sequences.begin(), sequences.end(), [](const StepSequence* s) { return s->study_scores; });
  const bool hidden = std::any_of(sequences.begin(), sequences.end(), [](const StepSequence* s) { return s->study_hidden; });

  positions_.upload(batch.positions);
  votes_.upload(batch.votes);
  while (image_index_.size() < batch.segments.size()) image_index_.emplace_back(backend_);
  while (scores_.size() < batch.segments.size()) scores_.emplace_back(backend_);
  image_index_[0].upload(batch.image_index);
  backend_.run(&BackendApi::embed, EmbedParams{.source = source_.upload(batch.source), .table = model_.decoder.embedding.get(),
                                               .maybe_features = features, .y = prefill_.h.as<void>(), .rows = most_rows});

  const auto keep_hidden = [&](const Segment& segment) {
    for (size_t s = 0; s < sequences.size(); ++s) {
      if (!sequences[s]->study_hidden) continue;
      const int64_t first = segment.cu_rows[s];
      const int64_t elements = (segment.cu_rows[s + 1] - first) * config.hidden;
      std::vector<float>& out = results[s]->hidden.emplace_back(static_cast<size_t>(elements));
      backend_.download_activations(out.data(),
                    static_cast<const void*>(prefill_.h.as<char>() + first * config.hidden * activation), elements);
    }
  };
  const auto keep_sums = [&](const Segment& segment, const SumsLayout& layout) {
    std::vector<float> sums(static_cast<size_t>(layout.floats));
    std::vector<uint8_t> votes(static_cast<size_t>(segment.rows));
    backend_.download(sums.data(), sums_.as<void>(), sums.size());
    backend_.download(votes.data(), votes_.as<void>(), votes.size());
    for (size_t s = 0; s < sequences.size(); ++s) {
      if (!sequences[s]->study_scores) continue;
      const std::vector<uint8_t> own(votes.begin() + segment.cu_rows[s], votes.begin() + segment.cu_rows[s + 1]);
      append_study(sums.data() + layout.offsets[s], config.heads, own, *results[s]);
    }
  };

  for (size_t k = 0; k < batch.segments.size(); ++k) {
    const Segment& segment = batch.segments[k];
    const bool cut_follows = k + 1 < batch.segments.size();
    if (segment.end == 0) {  // a cut before layer 0: nothing has attended yet
      compact(batch, segment, batch.segments[k + 1], SumsLayout(), k, false);
      continue;
    }
    const int32_t* cu_rows = cu_rows_.upload(segment.cu_rows);
    const int32_t* row_sequence = row_sequence_.upload(segment.row_sequence);
    const int32_t* row_slot = row_slot_.upload(segment.row_slot);
    int64_t blocks;
    const int32_t* pages = pages_.upload(segment_pages(batch, segment, blocks));

    for (int64_t index = segment.first; index < segment.end; ++index) {
      check();
      const DecoderLayer& layer = model_.decoder.layers[static_cast<size_t>(index)];
      const bool cut_here = cut_follows && index + 1 == segment.end;
      if (hidden) keep_hidden(segment);

      attention_input(layer, prefill_, segment.rows, Phase::kPrefill);
      backend_.run(&BackendApi::rope_kv,
                   RopeKvParams{.qkv = prefill_.qkv.as<void>(), .cos = model_.decoder.cos.as<float>(), .sin = model_.decoder.sin.as<float>(),
                                .positions = positions_.as<int32_t>(), .sequence = row_sequence, .slot = row_slot,
                                .pages = pages + (index - segment.first) * batch.size() * blocks, .pool = pool_.data(), .layout = pool_.layout(),
                                .rows = segment.rows, .blocks = static_cast<int32_t>(blocks), .heads = static_cast<int32_t>(config.heads)});

      const SumsLayout sums = study ? study_sums(segment, config.heads) : cut_here ? cut_sums(batch, segment, config.heads) : SumsLayout();
      ColumnSums column_sums{};
      if (!sums.empty()) {
        column_sums.votes = votes_.as<uint8_t>();
        std::copy(sums.masks.begin(), sums.masks.end(), column_sums.group_masks);
        column_sums.groups = static_cast<int32_t>(sums.masks.size());
        column_sums.columns = sums_columns_.upload(sums.columns);
        column_sums.offsets = sums_offsets_.upload(sums.offsets);
        column_sums.sums = static_cast<float*>(sums_.reserve(static_cast<size_t>(sums.floats) * sizeof(float)));
      }
      backend_.run(&BackendApi::attention_prefill,
                   AttentionPrefillParams{.qkv = prefill_.qkv.as<void>(), .y = prefill_.attention.as<void>(), .cu_rows = cu_rows,
                                          .sequences = batch.size(), .max_rows = static_cast<int32_t>(segment.max_rows),
                                          .heads = static_cast<int32_t>(config.heads), .kv_heads = static_cast<int32_t>(config.kv_heads),
                                          .head_dim = static_cast<int32_t>(config.head_dim),
                                          .scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim)), .causal = true,
                                          .maybe_column_sums = sums.empty() ? nullptr : &column_sums});
      if (study) keep_sums(segment, sums);

      // Everything after attention is row-wise, so the batch shrinks here, before the output projection.
      const Segment& after = cut_here ? batch.segments[k + 1] : segment;
      if (cut_here) compact(batch, segment, after, sums, k, true);
      const void* attention = prefill_.attention.as<void>();
      backend_.run(&BackendApi::linear, LinearParams{.x = attention, .weight = layer.out.get(), .maybe_bias = nullptr,
                                                     .maybe_residual = prefill_.h.as<void>(), .y = prefill_.h.as<void>(), .rows = after.rows,
                                                     .phase = Phase::kPrefill, .epilogue = Epilogue::kNone});
      feed_forward(layer, prefill_, after.rows, Phase::kPrefill);
    }
  }
  const Segment& end = batch.segments.back();
  if (hidden) keep_hidden(end);

  std::vector<int32_t> last_rows;
  for (size_t s = 0; s < sequences.size(); ++s) last_rows.push_back(end.cu_rows[s + 1] - 1);
  GatherParams gather{.index = gather_index_.upload(last_rows), .rows = batch.size(), .n = 1, .arrays = {}};
  gather.arrays[0] = {prefill_.h.as<void>(), last_.reserve(sequences.size() * static_cast<size_t>(config.hidden * activation)), config.hidden * activation};
  backend_.run(&BackendApi::gather, gather);
  logits_.reserve(sequences.size() * static_cast<size_t>(config.vocabulary) * sizeof(float));
  head(last_.as<void>(), prefill_, batch.size());
  choose(sequences, results);

  // What the cuts decided, and what a study asked for.
  for (size_t k = 0; k + 1 < batch.segments.size(); ++k) {
    const Segment& segment = batch.segments[k];
    const Segment& after = batch.segments[k + 1];
    std::vector<int32_t> index(static_cast<size_t>(after.rows));
    backend_.download(index.data(), image_index_[k + 1].as<int32_t>(), index.size());
    const Selection selection = make_selection(batch, segment, after, study ? study_sums(segment, config.heads) : cut_sums(batch, segment, config.heads));
    for (size_t s = 0; s < sequences.size(); ++s) {
      if (!cut_before(*sequences[s], segment.end)) continue;
      StepCutResult& out = results[s]->cuts.emplace_back();
      for (int32_t row = after.cu_rows[s]; row < after.cu_rows[s + 1]; ++row) {
        if (index[static_cast<size_t>(row)] >= 0) out.kept.push_back(static_cast<uint32_t>(index[static_cast<size_t>(row)]));
      }
      const SelectSequence& selected = selection.sequences[s];
      if (selected.scores < 0) continue;
      out.scores.resize(static_cast<size_t>(selected.alive));
      backend_.download(out.scores.data(), scores_[k].as<float>() + selected.scores, out.scores.size());
    }
  }
  for (size_t s = 0; s < sequences.size(); ++s) {
    if (!sequences[s]->study) continue;
    const int64_t first = end.cu_rows[s];
    const int64_t rows = end.cu_rows[s + 1] - first;
    results[s]->positions.resize(static_cast<size_t>(rows));
    backend_.download(results[s]->positions.data(), positions_.as<int32_t>() + first, static_cast<size_t>(rows));
    const int64_t wanted = sequences[s]->study_logits_all ? rows : 1;
    const char* from = prefill_.h.as<char>() + (first + rows - wanted) * config.hidden * activation;
    backend_.run(&BackendApi::norm, NormParams{.x = from, .weight = model_.decoder.norm.weight.as<float>(), .maybe_bias = nullptr,
                                               .y = prefill_.x.as<void>(), .rows = wanted, .width = config.hidden, .eps = config.rms_eps});
    void* logits = logits_.reserve(static_cast<size_t>(wanted * config.vocabulary) * sizeof(float));
    backend_.run(&BackendApi::logits, LogitsParams{.x = prefill_.x.as<void>(), .weight = model_.decoder.head.get(), .y = static_cast<float*>(logits), .rows = wanted});
    results[s]->logits.resize(static_cast<size_t>(wanted * config.vocabulary));
    backend_.download(results[s]->logits.data(), logits, results[s]->logits.size());
  }
}

void Decoder::compact(const PrefillBatch& batch, const Segment& from, const Segment& to, const SumsLayout& sums, size_t cut, bool with_attention) {
  const ModelConfig& config = model_.config;
  const int64_t activation = backend_.info().activation_bytes;
  const Selection selection = make_selection(batch, from, to, sums);
  const auto rows = static_cast<size_t>(to.rows);
  auto* source = static_cast<int32_t*>(gather_index_.reserve(std::max<size_t>(rows, 1) * sizeof(int32_t)));
  int32_t max_alive = 0;
  for (const SelectSequence& sequence : selection.sequences) max_alive = std::max(max_alive, sequence.alive);
  backend_.run(&BackendApi::select,
               SelectParams{.sequences = selection_.upload(selection.sequences), .n = batch.size(), .max_alive = max_alive,
                            .heads = static_cast<int32_t>(config.heads), .maybe_sums = sums_.as<float>(),
                            .maybe_ranks = ranks_.upload(selection.ranks), .maybe_weights = weights_.upload(selection.weights),
                            .image_index = image_index_[cut].as<int32_t>(),
                            .maybe_scores = selection.scores ? static_cast<float*>(scores_[cut].reserve(static_cast<size_t>(selection.scores) * sizeof(float))) : nullptr,
                            .source = source});

  GatherParams gather{.index = source, .rows = to.rows, .n = 0, .arrays = {}};
  const auto add = [&](const Buffer& in, Buffer& out, int64_t row_bytes) {
    gather.arrays[gather.n++] = {in.as<void>(), out.reserve(rows * static_cast<size_t>(row_bytes)), row_bytes};
  };
  add(prefill_.h, h_cut_, config.hidden * activation);
  if (with_attention) add(prefill_.attention, attention_cut_, config.q_width() * activation);
  add(positions_, positions_cut_, sizeof(int32_t));
  add(votes_, votes_cut_, 1);
  add(image_index_[cut], image_index_[cut + 1], sizeof(int32_t));
  backend_.run(&BackendApi::gather, gather);
  std::swap(prefill_.h, h_cut_);
  if (with_attention) std::swap(prefill_.attention, attention_cut_);
  std::swap(positions_, positions_cut_);
  std::swap(votes_, votes_cut_);
}

void Decoder::attention_input(const DecoderLayer& layer, Rows& at, int64_t rows, Phase phase) {
  const ModelConfig& config = model_.config;
  backend_.run(&BackendApi::norm, NormParams{.x = at.h.as<void>(), .weight = layer.attention_norm.weight.as<float>(), .maybe_bias = nullptr,
                                             .y = at.x.as<void>(), .rows = rows, .width = config.hidden, .eps = config.rms_eps});
  backend_.run(&BackendApi::linear, LinearParams{.x = at.x.as<void>(), .weight = layer.qkv.get(), .maybe_bias = nullptr, .maybe_residual = nullptr,
                                                 .y = at.qkv.as<void>(), .rows = rows, .phase = phase, .epilogue = Epilogue::kNone});
}

void Decoder::feed_forward(const DecoderLayer& layer, Rows& at, int64_t rows, Phase phase) {
  const ModelConfig& config = model_.config;
  backend_.run(&BackendApi::norm, NormParams{.x = at.h.as<void>(), .weight = layer.ffn_norm.weight.as<float>(), .maybe_bias = nullptr,
                                             .y = at.x.as<void>(), .rows = rows, .width = config.hidden, .eps = config.rms_eps});
  backend_.run(&BackendApi::linear, LinearParams{.x = at.x.as<void>(), .weight = layer.gate_up.get(), .maybe_bias = nullptr, .maybe_residual = nullptr,
                                                 .y = at.ffn.as<void>(), .rows = rows, .phase = phase, .epilogue = Epilogue::kSwiGlu});
  backend_.run(&BackendApi::linear, LinearParams{.x = at.ffn.as<void>(), .weight = layer.down.get(), .maybe_bias = nullptr,
                                                 .maybe_residual = at.h.as<void>(), .y = at.h.as<void>(), .rows = rows, .phase = phase,
                                                 .epilogue = Epilogue::kNone});
}

void Decoder::head(const void* last_rows, Rows& at, int64_t rows) {
  const ModelConfig& config = model_.config;
  backend_.run(&BackendApi::norm, NormParams{.x = last_rows, .weight = model_.decoder.norm.weight.as<float>(), .maybe_bias = nullptr,
                                             .y = at.x.as<void>(), .rows = rows, .width = config.hidden, .eps = config.rms_eps});
  backend_.run(&BackendApi::logits, LogitsParams{.x = at.x.as<void>(), .weight = model_.decoder.head.get(), .y = logits_.as<float>(), .rows = rows});
}

void Decoder::choose(const std::vector<const StepSequence*>& sequences, const std::vector<StepResult*>& results) {
  const ModelConfig& config = model_.config;
  const size_t n = sequences.size();
  StepAdjust all;
  std::vector<int32_t> start{0};
  std::vector<uint32_t> masks;
  std::vector<int64_t> mask_at;
  for (const StepSequence* sequence : sequences) {
    const StepAdjust& own = sequence->adjust;
    all.tokens.insert(all.tokens.end(), own.tokens.begin(), own.tokens.end());
    all.add.insert(all.add.end(), own.add.begin(), own.add.end());
    all.multiply.insert(all.multiply.end(), own.multiply.begin(), own.multiply.end());
    start.push_back(static_cast<int32_t>(all.tokens.size()));
    mask_at.push_back(sequence->allowed.empty() ? -1 : static_cast<int64_t>(masks.size()));
    masks.insert(masks.end(), sequence->allowed.begin(), sequence->allowed.end());
  }
  const uint32_t* device_masks = masks_.upload(masks);
  std::vector<const uint32_t*> mask_rows;
  for (const int64_t at : mask_at) mask_rows.push_back(at < 0 ? nullptr : device_masks + at);

  // Ids (n, kCandidates), logits (n, kCandidates), log-sum-exps (n): one block, for one copy to the host.
  const size_t listed = n * kCandidates, words = 2 * listed + n;
  auto* ids = static_cast<int32_t*>(candidates_.reserve(words * sizeof(int32_t)));
  auto* best = reinterpret_cast<float*>(ids + listed);
  float* lse = best + listed;
  backend_.run(&BackendApi::candidates,
               CandidatesParams{.logits = logits_.as<float>(), .rows = static_cast<int64_t>(n), .vocabulary = static_cast<int32_t>(config.vocabulary),
                                .adjust_start = adjust_start_.upload(start), .adjust_tokens = adjust_tokens_.upload(all.tokens),
                                .adjust_add = adjust_add_.upload(all.add), .adjust_multiply = adjust_multiply_.upload(all.multiply),
                                .masks = mask_rows_.upload(mask_rows), .ids = ids, .best = best, .log_sum_exp = lse});
  std::vector<int32_t> host(words);
  backend_.download(host.data(), ids, words);
  std::vector<float> host_floats(words - listed);
  std::memcpy(host_floats.data(), host.data() + listed, host_floats.size() * sizeof(float));
  const float* host_lse = host_floats.data() + listed;
  const auto kept = static_cast<int64_t>(std::min<int64_t>(kCandidates, config.vocabulary));
  for (size_t r = 0; r < n; ++r) {
    const auto id = host.begin() + static_cast<int64_t>(r) * kCandidates;
    const auto value = host_floats.begin() + static_cast<int64_t>(r) * kCandidates;
    results[r]->candidates.push_back({{id, id + kept}, {value, value + kept}, host_lse[r]});
  }
}

int64_t Decoder::workspace_bytes(const ModelConfig& config, int64_t rows, int64_t activation_bytes) {
  const int64_t per_row = 2 * config.hidden + config.qkv_width() + config.q_width() + config.ffn;
  return rows * per_row * activation_bytes + config.vocabulary * static_cast<int64_t>(sizeof(float));
}

}  // namespace himap
