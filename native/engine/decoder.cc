#include "native/engine/decoder.h"

#include <algorithm>
#include <cmath>

#include "native/engine/study.h"

namespace himap {

Decoder::Decoder(Backend& backend, const Model& model, const KvPool& pool)
    : backend_(backend), model_(model), pool_(pool), h_(backend), h_cut_(backend), x_(backend), qkv_(backend),
      attention_(backend), attention_cut_(backend), ffn_(backend), source_(backend), positions_(backend),
      positions_cut_(backend), votes_(backend), votes_cut_(backend), cu_rows_(backend), row_sequence_(backend),
      row_slot_(backend), pages_(backend), sums_(backend), sums_columns_(backend), sums_offsets_(backend),
      selection_(backend), ranks_(backend), weights_(backend), gather_index_(backend), last_(backend), logits_(backend),
      adjust_start_(backend), adjust_tokens_(backend), adjust_add_(backend), adjust_multiply_(backend), masks_(backend),
      mask_rows_(backend), ids_(backend), best_(backend), lse_(backend), lengths_(backend) {}

void Decoder::prefill(const std::vector<const StepSequence*>& sequences, const void* features,
                      const std::vector<StepResult*>& results, const std::function<void()>& check) {
  const ModelConfig& config = model_.config;
  const int64_t activation = backend_.info().activation_bytes;
  const PrefillBatch batch = make_prefill_batch(sequences, config.layers, config.image_tokens);
  const auto most_rows = static_cast<int64_t>(batch.source.size());  // no segment has more than the first
  const auto room = [&](Buffer& buffer, int64_t columns) { buffer.reserve(static_cast<size_t>(most_rows * columns * activation)); };
  room(h_, config.hidden);
  room(x_, config.hidden);
  room(qkv_, config.qkv_width());
  room(attention_, config.q_width());
  room(ffn_, config.ffn);

  const bool study = std::any_of(sequences.begin(), sequences.end(), [](const StepSequence* s) { return s->study_scores; });
  const bool hidden = std::any_of(sequences.begin(), sequences.end(), [](const StepSequence* s) { return s->study_hidden; });

  positions_.upload(batch.positions);
  votes_.upload(batch.votes);
  while (image_index_.size() < batch.segments.size()) image_index_.emplace_back(backend_);
  while (scores_.size() < batch.segments.size()) scores_.emplace_back(backend_);
  image_index_[0].upload(batch.image_index);
  backend_.run(&BackendApi::embed, EmbedParams{.source = source_.upload(batch.source), .table = model_.decoder.embedding.get(),
                                               .maybe_features = features, .y = h_.as<void>(), .rows = most_rows});

  const auto keep_hidden = [&](const Segment& segment) {
    for (size_t s = 0; s < sequences.size(); ++s) {
      if (!sequences[s]->study_hidden) continue;
      const int64_t first = segment.cu_rows[s];
      const int64_t elements = (segment.cu_rows[s + 1] - first) * config.hidden;
      std::vector<float>& out = results[s]->hidden.emplace_back(static_cast<size_t>(elements));
      backend_.download_activations(out.data(),
                    static_cast<const void*>(h_.as<char>() + first * config.hidden * activation), elements);
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

    for (int64_t index = segment.first; index < segment.end; ++index) {
      check();
      const DecoderLayer& layer = model_.decoder.layers[static_cast<size_t>(index)];
      const bool cut_here = cut_follows && index + 1 == segment.end;
      if (hidden) keep_hidden(segment);

      // Pages of this layer: (sequences, blocks), rows padded to the widest table.
      int64_t blocks = 1;
      std::vector<const int32_t*> tables;
      for (size_t s = 0; s < sequences.size(); ++s) {
        const size_t stage = stage_of(batch.stages[s], index);
        blocks = std::max(blocks, sequences[s]->stages[stage].blocks);
      }
      std::vector<int32_t> pages(sequences.size() * static_cast<size_t>(blocks), 0);
      for (size_t s = 0; s < sequences.size(); ++s) {
        const size_t stage = stage_of(batch.stages[s], index);
        const StepStage& own = sequences[s]->stages[stage];
        const int64_t layer_in_stage = index - batch.stages[s][stage].first;
        std::copy_n(own.pages.begin() + layer_in_stage * own.blocks, own.blocks, pages.begin() + static_cast<int64_t>(s) * blocks);
      }

      attention_input(layer, segment.rows, Phase::kPrefill);
      backend_.run(&BackendApi::rope_kv,
                   RopeKvParams{.qkv = qkv_.as<void>(), .cos = model_.decoder.cos.as<float>(), .sin = model_.decoder.sin.as<float>(),
                                .positions = positions_.as<int32_t>(), .sequence = row_sequence, .slot = row_slot,
                                .pages = pages_.upload(pages), .pool = pool_.data(), .layout = pool_.layout(),
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
                   AttentionPrefillParams{.qkv = qkv_.as<void>(), .y = attention_.as<void>(), .cu_rows = cu_rows,
                                          .sequences = batch.size(), .max_rows = static_cast<int32_t>(segment.max_rows),
                                          .heads = static_cast<int32_t>(config.heads), .kv_heads = static_cast<int32_t>(config.kv_heads),
                                          .head_dim = static_cast<int32_t>(config.head_dim),
                                          .scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim)), .causal = true,
                                          .maybe_column_sums = sums.empty() ? nullptr : &column_sums});
      if (study) keep_sums(segment, sums);

      // Everything after attention is row-wise, so the batch shrinks here, before the output projection.
      const Segment& after = cut_here ? batch.segments[k + 1] : segment;
      if (cut_here) compact(batch, segment, after, sums, k, true);
      const void* attention = attention_.as<void>();
      backend_.run(&BackendApi::linear, LinearParams{.x = attention, .weight = layer.out.get(), .maybe_bias = nullptr,
                                                     .maybe_residual = h_.as<void>(), .y = h_.as<void>(), .rows = after.rows,
                                                     .phase = Phase::kPrefill, .epilogue = Epilogue::kNone});
      feed_forward(layer, after.rows, Phase::kPrefill);
    }
  }
  const Segment& end = batch.segments.back();
  if (hidden) keep_hidden(end);

  std::vector<int32_t> last_rows;
  for (size_t s = 0; s < sequences.size(); ++s) last_rows.push_back(end.cu_rows[s + 1] - 1);
  GatherParams gather{.index = gather_index_.upload(last_rows), .rows = batch.size(), .n = 1, .arrays = {}};
  gather.arrays[0] = {h_.as<void>(), last_.reserve(sequences.size() * static_cast<size_t>(config.hidden * activation)), config.hidden * activation};
  backend_.run(&BackendApi::gather, gather);
  finish(sequences, last_.as<void>(), results);

  // What the cuts decided, and what a study asked for.
  for (size_t k = 0; k < batch.segments.size(); ++k) {
    const Segment& segment = batch.segments[k];
    const bool last = k + 1 == batch.segments.size();
    for (size_t s = 0; s < sequences.size(); ++s) {
      const StepCut* cut = last ? nullptr : cut_before(*sequences[s], segment.end);
      if (!cut) continue;
      const Segment& after = batch.segments[k + 1];
      std::vector<int32_t> index(static_cast<size_t>(after.cu_rows[s + 1] - after.cu_rows[s]));
      backend_.download(index.data(), image_index_[k + 1].as<int32_t>() + after.cu_rows[s], index.size());
      StepCutResult& out = results[s]->cuts.emplace_back();
      for (const int32_t image : index) {
        if (image >= 0) out.kept.push_back(static_cast<uint32_t>(image));
      }
      const Selection selection = make_selection(batch, segment, after, study ? study_sums(segment, config.heads) : cut_sums(batch, segment, config.heads));
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
    const char* from = h_.as<char>() + (first + rows - wanted) * config.hidden * activation;
    backend_.run(&BackendApi::norm, NormParams{.x = from, .weight = model_.decoder.norm.weight.as<float>(), .maybe_bias = nullptr,
                                               .y = x_.as<void>(), .rows = wanted, .width = config.hidden, .eps = config.rms_eps});
    void* logits = logits_.reserve(static_cast<size_t>(wanted * config.vocabulary) * sizeof(float));
    backend_.run(&BackendApi::logits, LogitsParams{.x = x_.as<void>(), .weight = model_.decoder.head.get(), .y = static_cast<float*>(logits), .rows = wanted});
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
  add(h_, h_cut_, config.hidden * activation);
  if (with_attention) add(attention_, attention_cut_, config.q_width() * activation);
  add(positions_, positions_cut_, sizeof(int32_t));
  add(votes_, votes_cut_, 1);
  add(image_index_[cut], image_index_[cut + 1], sizeof(int32_t));
  backend_.run(&BackendApi::gather, gather);
  std::swap(h_, h_cut_);
  if (with_attention) std::swap(attention_, attention_cut_);
  std::swap(positions_, positions_cut_);
  std::swap(votes_, votes_cut_);
}

void Decoder::decode(const std::vector<DecodeRow>& rows, const std::vector<StepResult*>& results, const std::function<void()>& check) {
  const ModelConfig& config = model_.config;
  const int64_t activation = backend_.info().activation_bytes;
  const size_t n = rows.size();
  const auto count = static_cast<int64_t>(n);
  const auto layers = static_cast<size_t>(config.layers);
  const auto room = [&](Buffer& buffer, int64_t columns) { return buffer.reserve(n * static_cast<size_t>(columns * activation)); };
  room(h_, config.hidden);
  room(x_, config.hidden);
  room(qkv_, config.qkv_width());
  room(attention_, config.q_width());
  room(ffn_, config.ffn);

  // Per layer and row, uploaded at once: slot of the new token, tokens to attend to, pages.
  std::vector<int32_t> ids, positions, row_index, slots, lengths;
  int64_t blocks = 1;
  for (size_t r = 0; r < n; ++r) {
    ids.push_back(rows[r].id);
    positions.push_back(rows[r].position);
    row_index.push_back(static_cast<int32_t>(r));
    for (const StepStage& stage : rows[r].sequence->stages) {
      if (!stage.pages.empty()) blocks = std::max(blocks, stage.blocks);  // without layers it has blocks in name only
    }
  }
  std::vector<int32_t> pages(layers * n * static_cast<size_t>(blocks), 0);
  for (size_t layer = 0; layer < layers; ++layer) {
    for (size_t r = 0; r < n; ++r) {
      const StepSequence& sequence = *rows[r].sequence;
      // Stages hold the layers that their tables cover, in order.
      size_t stage = 0;
      size_t first = 0;
      const auto layers_of = [&](size_t s) { return sequence.stages[s].blocks ? sequence.stages[s].pages.size() / static_cast<size_t>(sequence.stages[s].blocks) : 0; };
      while (layer >= first + layers_of(stage)) first += layers_of(stage++);
      const StepStage& own = sequence.stages[stage];
      const auto cached = static_cast<int32_t>(rows[r].cached[stage]);
      slots.push_back(cached);
      lengths.push_back(cached + 1);
      std::copy_n(own.pages.begin() + static_cast<int64_t>(layer - first) * own.blocks, own.blocks,
                  pages.begin() + static_cast<int64_t>((layer * n + r)) * blocks);
    }
  }
  const int32_t* device_positions = positions_.upload(positions);
  const int32_t* device_rows = row_sequence_.upload(row_index);
  const int32_t* device_slots = row_slot_.upload(slots);
  const int32_t* device_lengths = lengths_.upload(lengths);
  const int32_t* device_pages = pages_.upload(pages);

  backend_.run(&BackendApi::embed, EmbedParams{.source = source_.upload(ids), .table = model_.decoder.embedding.get(),
                                               .maybe_features = nullptr, .y = h_.as<void>(), .rows = count});
  for (size_t index = 0; index < layers; ++index) {
    check();
    const DecoderLayer& layer = model_.decoder.layers[index];
    const int32_t* layer_pages = device_pages + index * n * static_cast<size_t>(blocks);
    attention_input(layer, count, Phase::kDecode);
    backend_.run(&BackendApi::rope_kv,
                 RopeKvParams{.qkv = qkv_.as<void>(), .cos = model_.decoder.cos.as<float>(), .sin = model_.decoder.sin.as<float>(),
                              .positions = device_positions, .sequence = device_rows, .slot = device_slots + index * n,
                              .pages = layer_pages, .pool = pool_.data(), .layout = pool_.layout(), .rows = count,
                              .blocks = static_cast<int32_t>(blocks), .heads = static_cast<int32_t>(config.heads)});
    backend_.run(&BackendApi::attention_decode,
                 AttentionDecodeParams{.qkv = qkv_.as<void>(), .y = attention_.as<void>(), .pool = pool_.data(), .layout = pool_.layout(),
                                       .pages = layer_pages, .lengths = device_lengths + index * n, .rows = count,
                                       .blocks = static_cast<int32_t>(blocks), .heads = static_cast<int32_t>(config.heads),
                                       .scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim))});
    backend_.run(&BackendApi::linear, LinearParams{.x = attention_.as<void>(), .weight = layer.out.get(), .maybe_bias = nullptr,
                                                   .maybe_residual = h_.as<void>(), .y = h_.as<void>(), .rows = count,
                                                   .phase = Phase::kDecode, .epilogue = Epilogue::kNone});
    feed_forward(layer, count, Phase::kDecode);
  }
  std::vector<const StepSequence*> sequences;
  for (const DecodeRow& row : rows) sequences.push_back(row.sequence);
  finish(sequences, h_.as<void>(), results);
}

void Decoder::attention_input(const DecoderLayer& layer, int64_t rows, Phase phase) {
  const ModelConfig& config = model_.config;
  backend_.run(&BackendApi::norm, NormParams{.x = h_.as<void>(), .weight = layer.attention_norm.weight.as<float>(), .maybe_bias = nullptr,
                                             .y = x_.as<void>(), .rows = rows, .width = config.hidden, .eps = config.rms_eps});
  backend_.run(&BackendApi::linear, LinearParams{.x = x_.as<void>(), .weight = layer.qkv.get(), .maybe_bias = nullptr, .maybe_residual = nullptr,
                                                 .y = qkv_.as<void>(), .rows = rows, .phase = phase, .epilogue = Epilogue::kNone});
}

void Decoder::feed_forward(const DecoderLayer& layer, int64_t rows, Phase phase) {
  const ModelConfig& config = model_.config;
  backend_.run(&BackendApi::norm, NormParams{.x = h_.as<void>(), .weight = layer.ffn_norm.weight.as<float>(), .maybe_bias = nullptr,
                                             .y = x_.as<void>(), .rows = rows, .width = config.hidden, .eps = config.rms_eps});
  backend_.run(&BackendApi::linear, LinearParams{.x = x_.as<void>(), .weight = layer.gate_up.get(), .maybe_bias = nullptr, .maybe_residual = nullptr,
                                                 .y = ffn_.as<void>(), .rows = rows, .phase = phase, .epilogue = Epilogue::kSwiGlu});
  backend_.run(&BackendApi::linear, LinearParams{.x = ffn_.as<void>(), .weight = layer.down.get(), .maybe_bias = nullptr,
                                                 .maybe_residual = h_.as<void>(), .y = h_.as<void>(), .rows = rows, .phase = phase,
                                                 .epilogue = Epilogue::kNone});
}

void Decoder::finish(const std::vector<const StepSequence*>& sequences, const void* last_rows, const std::vector<StepResult*>& results) {
  const ModelConfig& config = model_.config;
  const size_t n = sequences.size();
  const auto rows = static_cast<int64_t>(n);
  backend_.run(&BackendApi::norm, NormParams{.x = last_rows, .weight = model_.decoder.norm.weight.as<float>(), .maybe_bias = nullptr,
                                             .y = x_.as<void>(), .rows = rows, .width = config.hidden, .eps = config.rms_eps});
  auto* logits = static_cast<float*>(logits_.reserve(n * static_cast<size_t>(config.vocabulary) * sizeof(float)));
  backend_.run(&BackendApi::logits, LogitsParams{.x = x_.as<void>(), .weight = model_.decoder.head.get(), .y = logits, .rows = rows});

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

  auto* ids = static_cast<int32_t*>(ids_.reserve(n * kCandidates * sizeof(int32_t)));
  auto* best = static_cast<float*>(best_.reserve(n * kCandidates * sizeof(float)));
  auto* lse = static_cast<float*>(lse_.reserve(n * sizeof(float)));
  backend_.run(&BackendApi::candidates,
               CandidatesParams{.logits = logits, .rows = rows, .vocabulary = static_cast<int32_t>(config.vocabulary),
                                .adjust_start = adjust_start_.upload(start), .adjust_tokens = adjust_tokens_.upload(all.tokens),
                                .adjust_add = adjust_add_.upload(all.add), .adjust_multiply = adjust_multiply_.upload(all.multiply),
                                .masks = mask_rows_.upload(mask_rows), .ids = ids, .best = best, .log_sum_exp = lse});
  std::vector<int32_t> host_ids(n * kCandidates);
  std::vector<float> host_best(n * kCandidates);
  std::vector<float> host_lse(n);
  backend_.download(host_ids.data(), ids, host_ids.size());
  backend_.download(host_best.data(), best, host_best.size());
  backend_.download(host_lse.data(), lse, host_lse.size());
  const auto kept = static_cast<int64_t>(std::min<int64_t>(kCandidates, config.vocabulary));
  for (size_t r = 0; r < n; ++r) {
    require(!std::isnan(host_lse[r]), Code::ERR_BAD_CHECKPOINT, "[decoder] the logits are not numbers: weights hold NaN or infinity, or a sum overflowed");
    const auto id = host_ids.begin() + static_cast<int64_t>(r) * kCandidates;
    const auto value = host_best.begin() + static_cast<int64_t>(r) * kCandidates;
    results[r]->candidates.push_back({{id, id + kept}, {value, value + kept}, host_lse[r]});
  }
}

int64_t Decoder::workspace_bytes(const ModelConfig& config, int64_t rows, int64_t activation_bytes) {
  const int64_t per_row = 2 * config.hidden + config.qkv_width() + config.q_width() + config.ffn;
  return rows * per_row * activation_bytes + config.vocabulary * static_cast<int64_t>(sizeof(float));
}

}  // namespace himap
