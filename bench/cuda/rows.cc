// The operations between the products: first rows, norm, rotation, selection, compaction, the best candidates. All are bound by
// the bytes they move.
#include <algorithm>
#include <numeric>

#include "bench/cuda/bench.h"
#include "bench/cuda/models.h"
#include "bench/cuda/prompts.h"
#include "native/engine/batch.h"

namespace himap::bench {
namespace {

class Rows {
 public:
  explicit Rows(Bench& bench) : bench_(bench), backend_(bench.backend), model_(bench.options.model) {}

  void norm(int64_t rows) {
    const Buffer x = bf16(rows * model_.hidden), y(backend_, static_cast<size_t>(rows * model_.hidden * 2));
    Buffer scale(backend_);
    const NormParams params{.x = x.as<void>(),
                            .weight = scale.upload(std::vector<float>(static_cast<size_t>(model_.hidden), 1.0f)),
                            .maybe_bias = nullptr,
                            .y = y.as<void>(),
                            .rows = rows,
                            .width = model_.hidden,
                            .eps = 1e-5f};
    add("norm", rows, static_cast<double>(rows * model_.hidden * 4 + model_.hidden * 4),
        [&] { backend_.run(&BackendApi::norm, params); });
  }

  void candidates(int64_t rows) {
    const int64_t elements = rows * model_.vocabulary;
    const Buffer logits = bf16(2 * elements);  // as float32: small numbers, nearly all different
    Buffer start(backend_), empty(backend_, 16), masks(backend_);
    const auto n = static_cast<size_t>(rows);
    const Buffer ids(backend_, n * kCandidates * 4), best(backend_, n * kCandidates * 4), lse(backend_, n * 4);
    const CandidatesParams params{.logits = logits.as<float>(),
                                  .rows = rows,
                                  .vocabulary = static_cast<int32_t>(model_.vocabulary),
                                  .adjust_start = start.upload(std::vector<int32_t>(n + 1, 0)),
                                  .adjust_tokens = empty.as<int32_t>(),
                                  .adjust_add = empty.as<float>(),
                                  .adjust_multiply = empty.as<float>(),
                                  .masks = masks.upload(std::vector<const uint32_t*>(n, nullptr)),
                                  .ids = ids.as<int32_t>(),
                                  .best = best.as<float>(),
                                  .log_sum_exp = lse.as<float>()};
    add("candidates", rows, static_cast<double>(elements * 4), [&] { backend_.run(&BackendApi::candidates, params); });
  }

  /** A batch of prompts, with the lists that the engine makes: how it enters the decoder, and every cut. */
  void prompts(int64_t sequences) {
    std::vector<StepSequence> prompts;
    std::vector<const StepSequence*> list;
    for (int64_t s = 0; s < sequences; ++s) {
      prompts.push_back(make_prompt(model_, bench_.options.decode_text, himap_cuts(model_), 0, s, 0, 1));
    }
    for (const StepSequence& prompt : prompts) list.push_back(&prompt);
    const PrefillBatch batch = make_prefill_batch(list, model_.layers, model_.image_tokens);
    embed(batch);
    rope_kv(batch);
    std::vector<int32_t> image_index = batch.image_index;
    for (size_t k = 0; k + 1 < batch.segments.size(); ++k) {
      const Segment &from = batch.segments[k], &to = batch.segments[k + 1];
      cut(batch, from, to, image_index, std::to_string(from.image_rows[0]) + " to " + std::to_string(to.image_rows[0]));
      image_index = first_kept(image_index, from, to);
    }
  }

  void finish() { bench_.report.finish(table_); }

 private:
  Buffer bf16(int64_t elements) {
    Buffer buffer(backend_, static_cast<size_t>(elements * 2));
    fill_random(backend_, buffer.as<void>(), elements, 19);
    return buffer;
  }

  void embed(const PrefillBatch& batch) {
    const auto rows = static_cast<int64_t>(batch.source.size());
    const std::vector<uint16_t> bits = random_bf16(model_.vocabulary * model_.hidden, 23);
    const WeightRef table(backend_, {{bits.data(), DType::kBF16, model_.vocabulary, model_.hidden}}, WeightLayout::kStacked);
    const Buffer features = bf16(batch.size() * model_.image_tokens * model_.hidden);
    const Buffer y(backend_, static_cast<size_t>(rows * model_.hidden * 2));
    Buffer source(backend_);
    const EmbedParams params{.source = source.upload(batch.source),
                             .table = table.get(),
                             .maybe_features = features.as<void>(),
                             .y = y.as<void>(),
                             .rows = rows};
    add("embed", rows, static_cast<double>(rows * model_.hidden * 4), [&] { backend_.run(&BackendApi::embed, params); });
  }

  void rope_kv(const PrefillBatch& batch) {
    const Segment& segment = batch.segments.front();
    const KvLayout layout{DType::kBF16, static_cast<int32_t>(model_.kv_heads), static_cast<int32_t>(model_.head_dim)};
    const int64_t blocks = (segment.max_rows + kPageTokens - 1) / kPageTokens;
    const auto half = static_cast<size_t>(model_.head_dim / 2), angles = static_cast<size_t>(model_.max_positions) * half;
    std::vector<int32_t> own_pages(static_cast<size_t>(batch.size() * blocks));
    std::iota(own_pages.begin(), own_pages.end(), 0);
    const Buffer qkv = bf16(segment.rows * model_.qkv_width());
    const Buffer pool(backend_, static_cast<size_t>(batch.size() * blocks * layout.page_bytes()));
    Buffer cos(backend_), sin(backend_), positions(backend_), sequence(backend_), slot(backend_), pages(backend_);
    const RopeKvParams params{.qkv = qkv.as<void>(),
                              .cos = cos.upload(std::vector<float>(angles, 0.8f)),
                              .sin = sin.upload(std::vector<float>(angles, 0.6f)),
                              .positions = positions.upload(batch.positions),
                              .sequence = sequence.upload(segment.row_sequence),
                              .slot = slot.upload(segment.row_slot),
                              .pages = pages.upload(own_pages),
                              .pool = pool.as<void>(),
                              .layout = layout,
                              .rows = segment.rows,
                              .blocks = static_cast<int32_t>(blocks),
                              .heads = static_cast<int32_t>(model_.heads)};
    // q and k read and written, v read; k and v into their pages.
    const int64_t values = 2 * (model_.q_width() + model_.kv_width()) + model_.kv_width() + 2 * model_.kv_width();
    add("rope_kv", segment.rows, static_cast<double>(segment.rows * values * 2), [&] { backend_.run(&BackendApi::rope_kv, params); });
  }

  void cut(const PrefillBatch& batch, const Segment& from, const Segment& to, const std::vector<int32_t>& image_index,
           const std::string& what) {
    const SumsLayout layout = cut_sums(batch, from, model_.heads);
    const Selection selection = make_selection(batch, from, to, layout);
    const Buffer sums = bf16(2 * layout.floats);
    Buffer sequences(backend_), index(backend_);
    const Buffer scores(backend_, static_cast<size_t>(std::max<int64_t>(selection.scores, 1)) * sizeof(float));
    const Buffer source(backend_, static_cast<size_t>(to.rows) * sizeof(int32_t));
    const SelectParams select{.sequences = sequences.upload(selection.sequences),
                              .n = batch.size(),
                              .max_alive = *std::max_element(from.image_rows.begin(), from.image_rows.end()),
                              .heads = static_cast<int32_t>(model_.heads),
                              .maybe_sums = sums.as<float>(),
                              .maybe_ranks = nullptr,
                              .maybe_weights = nullptr,
                              .image_index = index.upload(image_index),
                              .maybe_scores = scores.as<float>(),
                              .source = source.as<int32_t>()};
    add("select " + what, batch.size(), static_cast<double>(layout.floats * 4),
        [&] { backend_.run(&BackendApi::select, select); });

    // The residual stream, attention's output, positions, votes and the images' indices: what the decoder compacts.
    GatherParams gather{.index = source.as<int32_t>(), .rows = to.rows, .n = 0, .arrays = {}};
    std::vector<Buffer> buffers;
    double row_bytes = sizeof(int32_t);
    for (const int64_t bytes : {2 * model_.hidden, 2 * model_.q_width(), int64_t{4}, int64_t{1}, int64_t{4}}) {
      const void* in = buffers.emplace_back(backend_, static_cast<size_t>(from.rows * bytes)).as<void>();
      void* out = buffers.emplace_back(backend_, static_cast<size_t>(to.rows * bytes)).as<void>();
      gather.arrays[gather.n++] = {in, out, bytes};
      row_bytes += static_cast<double>(2 * bytes);
    }
    add("gather " + what, to.rows, static_cast<double>(to.rows) * row_bytes, [&] { backend_.run(&BackendApi::gather, gather); });
  }

  /** The images' indices behind a cut that kept the first of each sequence. */
  static std::vector<int32_t> first_kept(const std::vector<int32_t>& index, const Segment& from, const Segment& to) {
    std::vector<int32_t> kept;
    for (size_t s = 0; s + 1 < from.cu_rows.size(); ++s) {
      int32_t images = 0;
      for (int32_t row = from.cu_rows[s]; row < from.cu_rows[s + 1]; ++row) {
        if (index[static_cast<size_t>(row)] < 0 || images++ < to.image_rows[s]) kept.push_back(index[static_cast<size_t>(row)]);
      }
    }
    return kept;
  }

  void add(const std::string& name, int64_t rows, double bytes, const std::function<void()>& operation) {
    const double microseconds = bench_.time(operation);
    const double floor = 1e6 * bytes / bench_.ceilings.bytes_per_second;
    table_.add({words(name), number(static_cast<double>(rows), 0), number(microseconds, 1),
                number(bytes / microseconds * 1e-3, 0), number(floor, 2), share(floor / microseconds)});
  }

  Bench& bench_;
  Backend& backend_;
  const ModelConfig& model_;
  Table table_{"rows",
               "Between the products",
               {{"operation", "operation"},
                {"rows", "rows"},
                {"microseconds", "us"},
                {"gigabytes", "GB/s"},
                {"floor", "floor, us"},
                {"ofFloor", "floor / ours"}}};
};

}  // namespace

void measure_rows(Bench& bench) {
  Rows rows(bench);
  for (const int64_t count : bench.options.gemm_rows) rows.norm(count);
  for (const Batch& batch : bench.options.prompts) rows.prompts(batch.requests);
  for (const int64_t sequences : bench.options.decode_batches) rows.candidates(sequences);
  rows.finish();
}

}  // namespace himap::bench
