// Attention of a card: prompts against a double loop, column sums against float64, paged decode, and bits that do not
// depend on the company.
#include <cstring>

#include "kernels/attention_decode/launch_attention_decode.h"
#include "kernels/attention_prefill/launch_attention_prefill.h"
#include "test/native/kernel_fixture.h"

namespace himap {
namespace {

using test::Input;
using test::Output;
using test::Random;
using test::random_values;

struct Prompt {
  std::vector<int32_t> lengths;
  int32_t heads = 2;
  int32_t kv_heads = 1;
  int32_t head_dim = 64;
  bool causal = true;
  std::vector<uint8_t> group_masks;              // empty: no sums
  std::vector<std::pair<int32_t, int32_t>> columns;  // per sequence

  int32_t rows() const {
    int32_t sum = 0;
    for (const int32_t length : lengths) sum += length;
    return sum;
  }
  int64_t stride() const { return (int64_t{heads} + 2 * kv_heads) * head_dim; }
};

template <class T>
struct Outcome {
  std::vector<T> y;                        // (rows, heads * head_dim)
  std::vector<std::vector<float>> sums;    // per sequence (heads, tiles, groups, columns)
};

int32_t tiles_of(int32_t length) { return (length + kQueryTile - 1) / kQueryTile; }

template <class T>
Outcome<T> run(const Prompt& prompt, const std::vector<T>& qkv, const std::vector<uint8_t>& votes) {
  const Input<T> device_qkv(qkv);
  Output<T> y(static_cast<size_t>(int64_t{prompt.rows()} * prompt.heads * prompt.head_dim));
  std::vector<int32_t> cu_rows{0}, columns;
  std::vector<int64_t> offsets, floats;
  int64_t all = 0;
  const auto groups = static_cast<int32_t>(prompt.group_masks.size());
  for (size_t s = 0; s < prompt.lengths.size(); ++s) {
    cu_rows.push_back(cu_rows.back() + prompt.lengths[s]);
    if (groups == 0) continue;
    columns.insert(columns.end(), {prompt.columns[s].first, prompt.columns[s].second});
    offsets.push_back(all);
    floats.push_back(int64_t{prompt.heads} * tiles_of(prompt.lengths[s]) * groups * (prompt.columns[s].second - prompt.columns[s].first));
    all += floats.back();
  }
  const Input<int32_t> device_cu(cu_rows), device_columns(columns);
  const Input<int64_t> device_offsets(offsets);
  const Input<uint8_t> device_votes(votes);
  Output<float> sums(static_cast<size_t>(all));
  ColumnSums column_sums{.votes = device_votes.get(), .group_masks = {}, .groups = groups, .columns = device_columns.get(),
                         .offsets = device_offsets.get(), .sums = sums.get()};
  std::copy(prompt.group_masks.begin(), prompt.group_masks.end(), column_sums.group_masks);
  const AttentionPrefillParams params{.qkv = device_qkv.get(), .y = y.get(), .cu_rows = device_cu.get(),
                                      .sequences = static_cast<int32_t>(prompt.lengths.size()),
                                      .max_rows = *std::max_element(prompt.lengths.begin(), prompt.lengths.end()),
                                      .heads = prompt.heads, .kv_heads = prompt.kv_heads, .head_dim = prompt.head_dim,
                                      .scale = 1 / std::sqrt(static_cast<float>(prompt.head_dim)), .causal = prompt.causal,
                                      .maybe_column_sums = groups ? &column_sums : nullptr};
  test::launched(launch_attention_prefill(kDTypeOf<T>, params, nullptr));
  Outcome<T> outcome{y.read(), {}};
  const std::vector<float> flat = sums.read();
  for (size_t s = 0; s < offsets.size(); ++s) outcome.sums.emplace_back(flat.begin() + offsets[s], flat.begin() + offsets[s] + floats[s]);
  return outcome;
}

/** softmax(q k^T) of one row and head in double, (seen). */
template <class T>
std::vector<double> probabilities(const Prompt& prompt, const std::vector<T>& qkv, int64_t row0, int32_t length, int32_t row, int32_t head) {
  const int32_t seen = prompt.causal ? row + 1 : length, kv_head = head / (prompt.heads / prompt.kv_heads);
  const T* q = &qkv[static_cast<size_t>((row0 + row) * prompt.stride() + int64_t{head} * prompt.head_dim)];
  std::vector<double> p;
  double most = -1e300, total = 0;
  for (int32_t c = 0; c < seen; ++c) {
    const T* k = &qkv[static_cast<size_t>((row0 + c) * prompt.stride() + (int64_t{prompt.heads} + kv_head) * prompt.head_dim)];
    double dot = 0;
    for (int32_t d = 0; d < prompt.head_dim; ++d) dot += static_cast<double>(to_float(q[d])) * static_cast<double>(to_float(k[d]));
    p.push_back(dot * (1 / std::sqrt(static_cast<float>(prompt.head_dim))));
    most = std::max(most, p.back());
  }
  for (double& value : p) total += value = std::exp(value - most);
  for (double& value : p) value /= total;
  return p;
}

template <class T>
void check_prompt(const Prompt& prompt, float spread = 2) {
  Random random(static_cast<uint64_t>(prompt.rows() * 7 + prompt.head_dim));
  const std::vector<T> qkv = random_values<T>(random, prompt.rows() * prompt.stride(), spread);
  std::vector<uint8_t> votes;
  for (int32_t r = 0; r < prompt.rows(); ++r) votes.push_back(static_cast<uint8_t>(1u << random.bits() % 4));
  const Outcome<T> outcome = run(prompt, qkv, votes);

  std::vector<double> right, naive;
  int64_t row0 = 0;
  const auto groups = static_cast<int32_t>(prompt.group_masks.size());
  for (size_t s = 0; s < prompt.lengths.size(); ++s) {
    const int32_t length = prompt.lengths[s], tiles = tiles_of(length);
    const int32_t first = groups ? prompt.columns[s].first : 0, columns = groups ? prompt.columns[s].second - first : 0;
    std::vector<double> sums(static_cast<size_t>(int64_t{prompt.heads} * tiles * groups * columns));
    for (int32_t row = 0; row < length; ++row) {
      for (int32_t head = 0; head < prompt.heads; ++head) {
        const std::vector<double> p = probabilities(prompt, qkv, row0, length, row, head);
        const int64_t v0 = (int64_t{prompt.heads} + prompt.kv_heads + head / (prompt.heads / prompt.kv_heads)) * prompt.head_dim;
        for (int32_t d = 0; d < prompt.head_dim; ++d) {
          double exact = 0;
          float simple = 0;
          for (size_t c = 0; c < p.size(); ++c) {
            const float v = to_float(qkv[static_cast<size_t>((row0 + static_cast<int64_t>(c)) * prompt.stride() + v0 + d)]);
            exact += p[c] * static_cast<double>(v);
            simple += to_float(round_to<T>(static_cast<float>(p[c]))) * v;  // attention weights in the same 16 bits
          }
          right.push_back(exact);
          naive.push_back(static_cast<double>(to_float(round_to<T>(simple))));
        }
        for (int32_t g = 0; g < groups; ++g) {
          if (!(votes[static_cast<size_t>(row0 + row)] & prompt.group_masks[static_cast<size_t>(g)])) continue;
          for (int32_t c = 0; c < columns && first + c < static_cast<int32_t>(p.size()); ++c) {
            sums[static_cast<size_t>(((int64_t{head} * tiles + row / kQueryTile) * groups + g) * columns + c)] += p[static_cast<size_t>(first + c)];
          }
        }
      }
    }
    if (groups) {
      const double distance = test::relative_l2(test::widened(outcome.sums[s]), sums);
      if (!(distance <= 1e-5)) test::report(__FILE__, __LINE__, "column sums are " + std::to_string(distance) + " from float64");
    }
    row0 += length;
  }
  test::check_error("attention of " + std::to_string(prompt.rows()) + " rows", test::widened(outcome.y), right, naive);
}

TEST("prompts of awkward lengths, every head dimension, grouped queries") {
  check_prompt<Bf16>({.lengths = {1, 37, 64}, .head_dim = 32});
  check_prompt<F16>({.lengths = {65, 2}, .heads = 4, .kv_heads = 2, .head_dim = 64});
  check_prompt<Bf16>({.lengths = {130}, .heads = 1, .head_dim = 128});
  check_prompt<F16>({.lengths = {19}, .head_dim = 24});
  check_prompt<Bf16>({.lengths = {70}, .head_dim = 40}, 8);  // sharp attention
}

TEST("both ways, as the vision tower attends") {
  check_prompt<F16>({.lengths = {65, 65}, .heads = 2, .kv_heads = 2, .head_dim = 64, .causal = false});
  check_prompt<Bf16>({.lengths = {7}, .heads = 1, .head_dim = 32, .causal = false});
}

TEST("column sums of any voters over any columns") {
  check_prompt<Bf16>({.lengths = {150}, .heads = 2, .head_dim = 64, .group_masks = {1}, .columns = {{5, 141}}});
  check_prompt<F16>({.lengths = {66, 3, 129}, .heads = 2, .head_dim = 32, .group_masks = {1, 2, 4, 7, 8}, .columns = {{0, 66}, {1, 1}, {64, 129}}});
  check_prompt<Bf16>({.lengths = {80}, .heads = 1, .head_dim = 128, .group_masks = {16}, .columns = {{3, 70}}});  // nobody votes
  check_prompt<F16>({.lengths = {70}, .heads = 1, .head_dim = 32, .causal = false, .group_masks = {3}, .columns = {{0, 70}}});
}

TEST("a prompt has the same bits alone and in a batch, with sums and without") {
  Random random(11);
  Prompt one{.lengths = {77}, .heads = 2, .head_dim = 32, .group_masks = {1}, .columns = {{2, 70}}};
  Prompt many = one;
  many.lengths = {130, 77, 5};
  many.columns = {{0, 130}, {2, 70}, {0, 0}};
  const std::vector<Bf16> qkv = random_values<Bf16>(random, many.rows() * many.stride(), 2);
  const std::vector<uint8_t> votes(static_cast<size_t>(many.rows()), 1);
  const auto first = static_cast<std::ptrdiff_t>(130 * one.stride());
  const std::vector<Bf16> own(qkv.begin() + first, qkv.begin() + first + static_cast<std::ptrdiff_t>(77 * one.stride()));
  const Outcome<Bf16> alone = run(one, own, {votes.begin(), votes.begin() + 77}), among = run(many, qkv, votes);
  one.group_masks.clear();
  const Outcome<Bf16> plain = run(one, own, {});
  CHECK(alone.sums[0] == among.sums[1]);
  const size_t width = static_cast<size_t>(one.heads * one.head_dim);
  int32_t different = 0;
  for (size_t i = 0; i < 77 * width; ++i) different += alone.y[i].bits != among.y[130 * width + i].bits || alone.y[i].bits != plain.y[i].bits;
  CHECK_EQ(different, 0);
}

/** Sequences with caches of random pages, and each one's new row: not turned, and nothing in the pages where it will lie. */
template <class T, class P>
struct Decode {
  Decode(std::vector<int32_t> row_lengths, int32_t query_heads, int32_t kv_heads, int32_t head_dim, uint64_t seed)
      : lengths(std::move(row_lengths)), heads(query_heads), layout{kDTypeOf<P>, kv_heads, head_dim}, random(seed) {
    blocks = (*std::max_element(lengths.begin(), lengths.end()) + kPageTokens - 1) / kPageTokens + 1;
    const auto n = static_cast<int32_t>(lengths.size()) * blocks;
    for (int32_t i = 0; i < n; ++i) pages.push_back(n - 1 - i);
    qkv = random_values<T>(random, static_cast<int64_t>(lengths.size()) * (heads + 2 * kv_heads) * head_dim, 2);
    pool = random_values<P>(random, n * layout.page_elements(), 2);
    for (int32_t i = 0; i < kPositions * head_dim / 2; ++i) {
      const float angle = random.uniform() * 3;
      cos.push_back(std::cos(angle));
      sin.push_back(std::sin(angle));
    }
    turned = qkv;
    filled = pool;
    for (size_t row = 0; row < lengths.size(); ++row) {
      positions.push_back(static_cast<int32_t>(random.bits() % kPositions));
      for (int32_t head = 0; head < heads + kv_heads; ++head) turn(row, head);
      if (lengths[row] == 0) continue;
      for (int32_t value = 0; value < 2; ++value) {
        for (int32_t head = 0; head < kv_heads; ++head) {
          for (int32_t d = 0; d < head_dim; ++d) {
            const size_t at = place(row, lengths[row] - 1, value, head) + static_cast<size_t>(d);
            filled[at] = round_to<P>(to_float(turned[row_at(row, heads + value * kv_heads + head) + static_cast<size_t>(d)]));
            std::memset(&pool[at], 0xff, sizeof(P));
          }
        }
      }
    }
  }
  static constexpr int32_t kPositions = 5;
  std::vector<int32_t> lengths;
  int32_t heads;
  KvLayout layout;
  Random random;
  int32_t blocks;
  std::vector<int32_t> pages, positions;
  std::vector<float> cos, sin;
  std::vector<T> qkv, turned;   // before, and as the rows shall be turned
  std::vector<P> pool, filled;  // before, and with the new rows in it

  size_t row_at(size_t row, int32_t head) const {
    return (row * static_cast<size_t>(heads + 2 * layout.kv_heads) + static_cast<size_t>(head)) * static_cast<size_t>(layout.head_dim);
  }
  size_t place(size_t row, int32_t token, int32_t value, int32_t head) const {
    const int32_t page = pages[row * static_cast<size_t>(blocks) + static_cast<size_t>(token / kPageTokens)];
    return static_cast<size_t>(layout.offset(page, value, head, token % kPageTokens));
  }
  void turn(size_t row, int32_t head) {
    const auto half = static_cast<size_t>(layout.head_dim / 2), angle = static_cast<size_t>(positions[row]) * half;
    T* at = &turned[row_at(row, head)];
    for (size_t i = 0; i < half; ++i) {
      const float low = to_float(at[i]), high = to_float(at[half + i]), c = cos[angle + i], s = sin[angle + i];
      at[i] = round_to<T>(std::fma(low, c, -(high * s)));
      at[half + i] = round_to<T>(std::fma(high, c, low * s));
    }
  }

  /** Rows with length 0 keep NaN. */
  std::vector<T> run() const {
    const Input<int32_t> device_pages(pages), device_lengths(lengths), device_positions(positions);
    const Input<float> device_cos(cos), device_sin(sin);
    Output<T> device_qkv(qkv);
    Output<P> device_pool(pool);
    const auto rows = static_cast<int64_t>(lengths.size());
    Output<T> y(static_cast<size_t>(rows * heads * layout.head_dim));
    const AttentionDecodeParams params{.qkv = device_qkv.get(), .y = y.get(), .pool = device_pool.get(), .layout = layout,
                                       .pages = device_pages.get(), .lengths = device_lengths.get(), .cos = device_cos.get(),
                                       .sin = device_sin.get(), .positions = device_positions.get(), .rows = rows, .blocks = blocks,
                                       .heads = heads, .scale = 1 / std::sqrt(static_cast<float>(layout.head_dim))};
    Output<float> partials(static_cast<size_t>(attention_decode_partials(params)));
    Output<uint32_t> arrivals(std::vector<uint32_t>(static_cast<size_t>(rows * heads), 0));
    test::launched(launch_attention_decode(kDTypeOf<T>, params, {partials.get(), arrivals.get()}, nullptr));
    partials.read();
    device_qkv.read();
    for (const uint32_t count : arrivals.read()) CHECK_EQ(count, 0u);
    const std::vector<P> kept = device_pool.read();
    CHECK(std::memcmp(kept.data(), filled.data(), filled.size() * sizeof(P)) == 0);
    return y.read();
  }

  void check() const {
    std::vector<double> right, naive;
    const int32_t head_dim = layout.head_dim;
    for (size_t row = 0; row < lengths.size(); ++row) {
      for (int32_t head = 0; head < heads; ++head) {
        const int32_t kv_head = head / (heads / layout.kv_heads);
        const T* q = &turned[row_at(row, head)];
        const auto cached = [&](int32_t token, int32_t value) { return &filled[place(row, token, value, kv_head)]; };
        std::vector<double> p;
        double most = -1e300, total = 0;
        for (int32_t t = 0; t < lengths[row]; ++t) {
          double dot = 0;
          for (int32_t d = 0; d < head_dim; ++d) dot += static_cast<double>(to_float(q[d])) * static_cast<double>(to_float(cached(t, 0)[d]));
          p.push_back(dot * (1 / std::sqrt(static_cast<float>(head_dim))));
          most = std::max(most, p.back());
        }
        for (double& value : p) total += value = std::exp(value - most);
        for (int32_t d = 0; d < head_dim; ++d) {
          double exact = 0;
          float simple = 0;
          for (int32_t t = 0; t < lengths[row]; ++t) {
            const float weight = static_cast<float>(p[static_cast<size_t>(t)] / total), v = to_float(cached(t, 1)[d]);
            exact += p[static_cast<size_t>(t)] / total * static_cast<double>(v);
            simple += weight * v;
          }
          right.push_back(exact);
          naive.push_back(static_cast<double>(to_float(round_to<T>(simple))));
        }
      }
    }
    test::check_error("decode", test::widened(run()), right, naive);
  }
};

TEST("decode over pages, around pages and splits, from every storage type") {
  Decode<Bf16, Bf16>({1, 31, 33, 256, 257, 700}, 2, 1, 64, 1).check();
  Decode<F16, F16>({300, 5}, 2, 2, 128, 2).check();
  Decode<Bf16, float>({40}, 4, 2, 32, 3).check();
  Decode<F16, F16>({513, 32}, 1, 1, 24, 4).check();
  Decode<F16, Bf16>({10}, 1, 1, 256, 5).check();
  Decode<Bf16, Bf16>({64, 160, 289}, 3, 3, 40, 8).check();
}

TEST("a row that stands for nobody is left alone") {
  const Decode<Bf16, Bf16> some({0, 40, 0}, 2, 1, 64, 7);
  const std::vector<Bf16> y = some.run();
  int32_t untouched = 0;
  for (const Bf16 value : y) untouched += value.bits == 0xffff;
  CHECK_EQ(untouched, 2 * 2 * 64);
}

TEST("a decoded row has the same bits alone and in a batch of 64") {
  std::vector<int32_t> lengths;
  for (int32_t i = 0; i < 64; ++i) lengths.push_back(1 + i * 29 % 61);
  lengths[20] = 600;
  const Decode<Bf16, Bf16> many(lengths, 2, 1, 32, 6);
  Decode<Bf16, Bf16> one = many;
  one.lengths = {600};
  const auto width = static_cast<std::ptrdiff_t>((many.heads + 2 * many.layout.kv_heads) * many.layout.head_dim);
  one.qkv = {many.qkv.begin() + 20 * width, many.qkv.begin() + 21 * width};
  one.pages = {many.pages.begin() + 20 * many.blocks, many.pages.begin() + 21 * many.blocks};
  one.positions = {many.positions[20]};
  one.filled = one.pool;  // of the one row only
  for (int32_t value = 0; value < 2; ++value) {
    const size_t at = one.place(0, 599, value, 0);
    std::copy_n(many.filled.begin() + static_cast<std::ptrdiff_t>(at), 32, one.filled.begin() + static_cast<std::ptrdiff_t>(at));
  }
  const std::vector<Bf16> among = many.run(), alone = one.run();
  int32_t different = 0;
  for (size_t i = 0; i < alone.size(); ++i) different += alone[i].bits != among[20 * alone.size() + i].bits;
  CHECK_EQ(different, 0);
}

}  // namespace
}  // namespace himap

TEST_MAIN()
