// A decode step: one new row per sequence through every layer, in few sizes, so that what was recorded of one serves many.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "native/engine/decoder.h"

namespace himap {
namespace {

constexpr int64_t kMostGraphRows = 128;
constexpr int64_t kSplitBlocks = kDecodeSplit / kPageTokens;

/** The rows that a step is run with, and the width of each layer's page table: what is pruned away is not walked over either. */
struct DecodeSize {
  int64_t rows;
  std::vector<int64_t> blocks;
};

int64_t power_of_two(int64_t least) {
  int64_t power = 1;
  while (power < least) power *= 2;
  return power;
}

/** Blocks of each layer's longest row. */
std::vector<int64_t> longest_blocks(const std::vector<Decoder::DecodeRow>& rows, int64_t layers) {
  std::vector<int64_t> longest(static_cast<size_t>(layers), 1);
  for (const Decoder::DecodeRow& row : rows) {
    auto layer = longest.begin();
    for (const StepStage& stage : row.sequence->stages) {
      for (size_t page = 0; page < stage.pages.size(); page += static_cast<size_t>(stage.blocks), ++layer) {
        *layer = std::max(*layer, stage.blocks);
      }
    }
  }
  return longest;
}

/** Rows that stand for nobody fill a step up to a power of two; tables are as many whole splits wide. */
DecodeSize decode_size(int64_t rows, std::vector<int64_t> blocks) {
  for (int64_t& width : blocks) width = kSplitBlocks * power_of_two((width + kSplitBlocks - 1) / kSplitBlocks);
  return {power_of_two(rows), std::move(blocks)};
}

/** What a step's operations read, of (size.rows) rows each; rows beyond the last have length 0. */
struct DecodeTables {
  std::vector<int32_t> rows;   // ids, positions, then lengths of every layer: (2 + layers, rows)
  std::vector<int32_t> pages;  // (rows, blocks) of each layer, one after another
  std::vector<int64_t> first;  // of each layer in `pages`
};

DecodeTables decode_tables(const std::vector<Decoder::DecodeRow>& rows, const DecodeSize& size) {
  const auto at = [](int64_t index) { return static_cast<size_t>(index); };
  const auto layers = static_cast<int64_t>(size.blocks.size());
  DecodeTables tables;
  int64_t pages_of_all = 0;
  for (const int64_t blocks : size.blocks) {
    tables.first.push_back(pages_of_all);
    pages_of_all += size.rows * blocks;
  }
  tables.rows.resize(at((2 + layers) * size.rows));
  tables.pages.resize(at(pages_of_all));
  for (int64_t r = 0; r < static_cast<int64_t>(rows.size()); ++r) {
    const Decoder::DecodeRow& row = rows[at(r)];
    tables.rows[at(r)] = row.id;
    tables.rows[at(size.rows + r)] = row.position;
    int64_t layer = 0;
    for (size_t s = 0; s < row.sequence->stages.size(); ++s) {
      const StepStage& stage = row.sequence->stages[s];
      for (auto pages = stage.pages.begin(); pages != stage.pages.end(); pages += stage.blocks, ++layer) {
        tables.rows[at((2 + layer) * size.rows + r)] = static_cast<int32_t>(row.cached[s]) + 1;
        std::copy_n(pages, stage.blocks, tables.pages.begin() + tables.first[at(layer)] + r * size.blocks[at(layer)]);
      }
    }
  }
  return tables;
}

}  // namespace

void Decoder::decode(const std::vector<DecodeRow>& rows, const std::vector<StepResult*>& results, const std::function<void()>& check) {
  const ModelConfig& config = model_.config;
  const auto count = static_cast<int64_t>(rows.size());
  const bool in_graphs = backend_.info().graphs && count <= kMostGraphRows;
  std::vector<int64_t> blocks = longest_blocks(rows, config.layers);
  const DecodeSize size = in_graphs ? decode_size(count, std::move(blocks)) : DecodeSize{count, std::move(blocks)};
  DecodeTables tables = decode_tables(rows, size);
  decode_.reserve(config, size.rows, backend_.info().activation_bytes);
  logits_.reserve(static_cast<size_t>(size.rows * config.vocabulary) * sizeof(float));
  const int32_t* ids = decode_rows_.upload(tables.rows);
  const int32_t* positions = ids + size.rows;
  const int32_t* lengths = positions + size.rows;
  if (tables.pages != pages_on_device_) {  // they change where a sequence joins or fills a page
    pages_on_device_.clear();
    decode_pages_.upload(tables.pages);
    pages_on_device_ = std::move(tables.pages);
  }

  const auto operations = [&](const std::function<void()>& between) {
    backend_.run(&BackendApi::embed, EmbedParams{.source = ids, .table = model_.decoder.embedding.get(), .maybe_features = nullptr,
                                                 .y = decode_.h.as<void>(), .rows = size.rows});
    for (int64_t index = 0; index < config.layers; ++index) {
      between();
      const auto at = static_cast<size_t>(index);
      const DecoderLayer& layer = model_.decoder.layers[at];
      attention_input(layer, decode_, size.rows, Phase::kDecode);
      backend_.run(&BackendApi::attention_decode,
                   AttentionDecodeParams{.qkv = decode_.qkv.as<void>(), .y = decode_.attention.as<void>(), .pool = pool_.data(),
                                         .layout = pool_.layout(), .pages = decode_pages_.as<int32_t>() + tables.first[at],
                                         .lengths = lengths + index * size.rows, .cos = model_.decoder.cos.as<float>(),
                                         .sin = model_.decoder.sin.as<float>(), .positions = positions, .rows = size.rows,
                                         .blocks = static_cast<int32_t>(size.blocks[at]), .heads = static_cast<int32_t>(config.heads),
                                         .scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim))});
      backend_.run(&BackendApi::linear, LinearParams{.x = decode_.attention.as<void>(), .weight = layer.out.get(), .maybe_bias = nullptr,
                                                     .maybe_residual = decode_.h.as<void>(), .y = decode_.h.as<void>(),
                                                     .rows = size.rows, .phase = Phase::kDecode, .epilogue = Epilogue::kNone});
      feed_forward(layer, decode_, size.rows, Phase::kDecode);
    }
    head(decode_.h.as<void>(), decode_, size.rows);
  };
  if (in_graphs) {
    Graphs::Key key{size.rows};
    key.insert(key.end(), size.blocks.begin(), size.blocks.end());
    graphs_.run(key, operations, check);
  } else {
    operations(check);
  }

  std::vector<const StepSequence*> sequences;
  for (const DecodeRow& row : rows) sequences.push_back(row.sequence);
  choose(sequences, results);
}

}  // namespace himap
