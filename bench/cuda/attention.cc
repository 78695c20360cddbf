// Attention by itself: prompts with and without the score pass, the vision tower, and decode at the lengths that pruning leaves.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "bench/cuda/bench.h"
#include "bench/cuda/models.h"
#include "bench/cuda/prompts.h"

namespace himap::bench {
namespace {

struct PromptCase {
  std::string name;
  int64_t sequences;
  int64_t rows;  // of each
  int64_t heads;
  int64_t head_dim;
  bool causal;
  // Of the score pass: rows [first_voter, end_voter) of each sequence vote on columns [first_column, end_column).
  int64_t first_voter = 0, end_voter = 0, first_column = 0, end_column = 0;

  bool scores() const { return end_voter > first_voter; }
  /** Pairs of a voter and a column that it sees. */
  double votes() const {
    double pairs = 0;
    for (int64_t row = first_voter; row < end_voter; ++row) {
      pairs += static_cast<double>(std::max<int64_t>(0, std::min(end_column, row + 1) - first_column));
    }
    return pairs;
  }
};

std::vector<PromptCase> prompt_cases(const Options& options) {
  const ModelConfig& model = options.model;
  const std::vector<PlanCut> cuts = himap_cuts(model);
  std::vector<PromptCase> cases;
  for (const Batch& batch : options.prompts) {
    cases.push_back({"tower", batch.requests, model.vision.patches() + 1, model.vision.heads,
                     model.vision.hidden / model.vision.heads, false});
    if (batch.requests > 8) continue;  // more of the same
    for (const int64_t text : options.text_lengths) {
      const int64_t image = model.image_tokens, first = make_prompt(model, text, {}, 0, 0, 0, 1).spans[0].start;
      const auto add = [&](const char* name, int64_t alive, int64_t first_voter, int64_t end_voter) {
        PromptCase one{name, batch.requests, text + alive, model.heads, model.head_dim, true};
        cases.push_back(one);
        if (end_voter == first_voter) return;
        one.name += ", scores";
        one.first_voter = first_voter;
        one.end_voter = end_voter;
        one.first_column = first;
        one.end_column = first + alive;
        cases.push_back(one);
      };
      add("whole", image, first + image, text + image);
      add("after the first cut", cuts[0].keep, first, first + cuts[0].keep);
      add("after the second", cuts[1].keep, 0, 0);
    }
  }
  return cases;
}

void time_prompt(Bench& bench, const PromptCase& one, Table& table) {
  Backend& backend = bench.backend;
  const int64_t rows = one.sequences * one.rows, width = one.heads * one.head_dim;
  const Buffer qkv(backend, static_cast<size_t>(rows * 3 * width * 2)), y(backend, static_cast<size_t>(rows * width * 2));
  fill_random(backend, qkv.as<void>(), rows * 3 * width, 11);
  std::vector<int32_t> cu_rows, columns;
  std::vector<uint8_t> votes(static_cast<size_t>(rows), kVotesPrefix);
  std::vector<int64_t> offsets;
  const int64_t tiles = (one.rows + kQueryTile - 1) / kQueryTile,
                floats = one.heads * tiles * (one.end_column - one.first_column);
  for (int64_t s = 0; s < one.sequences; ++s) {
    cu_rows.push_back(static_cast<int32_t>(s * one.rows));
    columns.insert(columns.end(), {static_cast<int32_t>(one.first_column), static_cast<int32_t>(one.end_column)});
    offsets.push_back(s * floats);
    std::fill(votes.begin() + s * one.rows + one.first_voter, votes.begin() + s * one.rows + one.end_voter, kVotesInstruction);
  }
  cu_rows.push_back(static_cast<int32_t>(rows));
  Buffer device_cu_rows(backend), device_votes(backend), device_columns(backend), device_offsets(backend), sums(backend);
  ColumnSums column_sums{};
  if (one.scores()) {
    column_sums.votes = device_votes.upload(votes);
    column_sums.group_masks[0] = kVotesInstruction;
    column_sums.groups = 1;
    column_sums.columns = device_columns.upload(columns);
    column_sums.offsets = device_offsets.upload(offsets);
    column_sums.sums = static_cast<float*>(sums.reserve(static_cast<size_t>(one.sequences * floats) * sizeof(float)));
  }
  const auto heads = static_cast<int32_t>(one.heads);
  const AttentionPrefillParams params{.qkv = qkv.as<void>(),
                                      .y = y.as<void>(),
                                      .cu_rows = device_cu_rows.upload(cu_rows),
                                      .sequences = static_cast<int32_t>(one.sequences),
                                      .max_rows = static_cast<int32_t>(one.rows),
                                      .heads = heads,
                                      .kv_heads = heads,
                                      .head_dim = static_cast<int32_t>(one.head_dim),
                                      .scale = 1.0f / std::sqrt(static_cast<float>(one.head_dim)),
                                      .causal = one.causal,
                                      .maybe_column_sums = one.scores() ? &column_sums : nullptr};
  const double microseconds = bench.time([&] { backend.run(&BackendApi::attention_prefill, params); });
  const auto count = static_cast<double>(one.sequences);
  Work work = prefill_attention_work(one.rows, one.heads, one.heads, one.head_dim, one.causal);
  work.flops = count * (work.flops + 2 * one.votes() * static_cast<double>(width));
  work.bytes *= count;
  const double floor = 1e6 * floor_seconds(work, bench.ceilings);
  table.add({words(one.name), number(count, 0), number(static_cast<double>(one.rows), 0),
             words(std::to_string(one.heads) + " x " + std::to_string(one.head_dim)), number(microseconds, 1),
             number(work.flops / microseconds * 1e-6, 0), number(work.bytes / microseconds * 1e-3, 0), number(floor, 1),
             share(floor / microseconds)});
}

void time_decode(Bench& bench, int64_t rows, int64_t length, Table& table) {
  Backend& backend = bench.backend;
  const ModelConfig& model = bench.options.model;
  const KvLayout layout{DType::kBF16, static_cast<int32_t>(model.kv_heads), static_cast<int32_t>(model.head_dim)};
  const int64_t blocks = (length + kPageTokens - 1) / kPageTokens;
  Buffer pool(backend), pages(backend), lengths(backend), qkv(backend), cos(backend), sin(backend), positions(backend);
  try {
    pool.reserve(static_cast<size_t>(rows * blocks * layout.page_bytes()));
  } catch (const Error& error) {
    if (error.code != Code::ERR_OUT_OF_MEMORY) throw;
    table.add({number(static_cast<double>(rows), 0), number(static_cast<double>(length), 0), words("does not fit the card"),
               none(), none(), none()});
    return;
  }
  fill_random(backend, pool.as<void>(), rows * blocks * layout.page_elements(), 13);
  qkv.reserve(static_cast<size_t>(rows * model.qkv_width() * 2));
  fill_random(backend, qkv.as<void>(), rows * model.qkv_width(), 17);
  const Buffer y(backend, static_cast<size_t>(rows * model.q_width() * 2));
  std::vector<int32_t> table_of_pages(static_cast<size_t>(rows * blocks));
  std::iota(table_of_pages.begin(), table_of_pages.end(), 0);
  const auto half = static_cast<size_t>(model.head_dim / 2);
  const AttentionDecodeParams params{
      .qkv = qkv.as<void>(),
      .y = y.as<void>(),
      .pool = pool.as<void>(),
      .layout = layout,
      .pages = pages.upload(table_of_pages),
      .lengths = lengths.upload(std::vector<int32_t>(static_cast<size_t>(rows), static_cast<int32_t>(length))),
      .cos = cos.upload(std::vector<float>(half, 1.0f)),
      .sin = sin.upload(std::vector<float>(half, 0.0f)),
      .positions = positions.upload(std::vector<int32_t>(static_cast<size_t>(rows), 0)),
      .rows = rows,
      .blocks = static_cast<int32_t>(blocks),
      .heads = static_cast<int32_t>(model.heads),
      .scale = 1.0f / std::sqrt(static_cast<float>(model.head_dim))};
  const double microseconds = bench.time([&] { backend.run(&BackendApi::attention_decode, params); });
  Work work = decode_attention_work(length, model.heads, model.kv_heads, model.head_dim);
  work.flops *= static_cast<double>(rows);
  work.bytes *= static_cast<double>(rows);
  const double floor = 1e6 * floor_seconds(work, bench.ceilings);
  table.add({number(static_cast<double>(rows), 0), number(static_cast<double>(length), 0), number(microseconds, 1),
             number(work.bytes / microseconds * 1e-3, 0), number(floor, 1), share(floor / microseconds)});
}

}  // namespace

void measure_attention(Bench& bench) {
  const Options& options = bench.options;
  Table prompts("attentionPrefill", "Attention of prompts, one layer",
                {{"rows", "rows of"},
                 {"sequences", "sequences"},
                 {"length", "rows"},
                 {"heads", "heads"},
                 {"microseconds", "us"},
                 {"teraflops", "TFLOP/s"},
                 {"gigabytes", "GB/s"},
                 {"floor", "floor, us"},
                 {"ofFloor", "floor / ours"}});
  for (const PromptCase& one : prompt_cases(options)) time_prompt(bench, one, prompts);
  prompts.note("FLOP: the exact triangle (the tower: the square), and with scores each pair of a voter and a column once more.");
  bench.report.finish(prompts);

  Table decode("attentionDecode", "Attention of one new row per sequence, one layer",
               {{"sequences", "sequences"},
                {"length", "tokens"},
                {"microseconds", "us"},
                {"gigabytes", "GB/s"},
                {"floor", "floor, us"},
                {"ofFloor", "floor / ours"}});
  // What the stages of a prompt of decode hold, in the middle of the timed steps.
  const ModelConfig& model = options.model;
  const int64_t generated = options.warm_tokens + options.bursts * options.burst_tokens / 2;
  for (const int64_t rows : options.decode_batches) {
    for (const Stage& stage : stages_of(model, options.decode_text, himap_cuts(model), 0)) {
      time_decode(bench, rows, stage.tokens + generated, decode);
    }
  }
  bench.report.finish(decode);
}

}  // namespace himap::bench
