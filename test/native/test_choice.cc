// What a card decides: which image tokens survive a cut, and the best tokens of each row of logits.
#include <numeric>

#include "kernels/candidates/launch_candidates.h"
#include "kernels/select/launch_select.h"
#include "test/native/kernel_fixture.h"

namespace himap {
namespace {

using test::Input;
using test::Output;
using test::Random;
using test::random_values;

/** A batch of sequences before a cut: which rows are image rows, and everything that a selection reads. */
struct Cut {
  std::vector<SelectSequence> sequences;
  std::vector<int32_t> image_index;
  std::vector<float> sums, weights;
  std::vector<int32_t> ranks;
  int64_t scores = 0;
  int32_t heads = 3;

  /** Adds a sequence of `rows` rows whose image rows are [first, first + alive), with random sums of `tiles` tiles. */
  SelectSequence& add(Random& random, int32_t rows, int32_t first, int32_t alive, int32_t keep, int32_t tiles = 2, int32_t groups = 1) {
    const auto row0 = static_cast<int32_t>(image_index.size());
    const int32_t out_row0 = sequences.empty() ? 0 : sequences.back().out_row0 + sequences.back().rows - sequences.back().alive + sequences.back().keep;
    for (int32_t r = 0; r < rows; ++r) image_index.push_back(r >= first && r < first + alive ? (r - first) * 2 + 1 : -1);
    SelectSequence s{.row0 = row0, .rows = rows, .out_row0 = out_row0, .keep = keep, .alive = alive, .column0 = first, .columns = alive,
                     .query_tiles = tiles, .groups = groups, .group = groups - 1, .heads_max = 0,
                     .sums = static_cast<int64_t>(sums.size()), .ranks = -1, .weights = -1, .scores = scores};
    scores += alive;
    const std::vector<float> more = random_values<float>(random, int64_t{heads} * tiles * groups * alive, 1);
    sums.insert(sums.end(), more.begin(), more.end());
    sequences.push_back(s);
    return sequences.back();
  }

  void check() const {
    const Input<SelectSequence> device_sequences(sequences);
    const Input<float> device_sums(sums), device_weights(weights);
    const Input<int32_t> device_ranks(ranks), device_index(image_index);
    Output<float> device_scores(static_cast<size_t>(scores));
    const SelectSequence& last = sequences.back();
    Output<int32_t> source(static_cast<size_t>(last.out_row0 + last.rows - last.alive + last.keep));
    int32_t max_alive = 0;
    for (const SelectSequence& s : sequences) max_alive = std::max(max_alive, s.alive);
    test::launched(launch_select({.sequences = device_sequences.get(), .n = static_cast<int32_t>(sequences.size()), .max_alive = max_alive,
                                  .heads = heads, .maybe_sums = device_sums.get(), .maybe_ranks = device_ranks.get(),
                                  .maybe_weights = device_weights.get(), .image_index = device_index.get(),
                                  .maybe_scores = device_scores.get(), .source = source.get()},
                                 nullptr));
    const std::vector<float> got_scores = device_scores.read();
    std::vector<int32_t> expected;
    for (const SelectSequence& s : sequences) {
      std::vector<bool> kept(static_cast<size_t>(s.alive), s.sums < 0 && s.ranks < 0);
      if (s.sums >= 0) {
        std::vector<float> score;
        for (int32_t i = 0; i < s.alive; ++i) {
          float joined = 0;
          for (int32_t h = 0; h < heads; ++h) {
            float sum = 0;
            for (int32_t t = 0; t < s.query_tiles; ++t) {
              sum += sums[static_cast<size_t>(s.sums + ((int64_t{h} * s.query_tiles + t) * s.groups + s.group) * s.columns + i)];
            }
            joined = !s.heads_max ? joined + sum : h == 0 ? sum : std::max(joined, sum);
          }
          if (!s.heads_max) joined /= static_cast<float>(heads);
          if (s.weights >= 0) joined *= weights[static_cast<size_t>(s.weights + 2 * i + 1)];
          score.push_back(std::isnan(joined) ? -INFINITY : joined);
          if (s.scores >= 0) CHECK_EQ(got_scores[static_cast<size_t>(s.scores + i)], score.back());
        }
        std::vector<int32_t> order(score.size());
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return score[static_cast<size_t>(a)] > score[static_cast<size_t>(b)]; });
        for (int32_t i = 0; i < s.keep && s.ranks < 0; ++i) kept[static_cast<size_t>(order[static_cast<size_t>(i)])] = true;
      }
      for (int32_t i = 0; i < s.keep && s.ranks >= 0; ++i) kept[static_cast<size_t>(ranks[static_cast<size_t>(s.ranks + i)])] = true;
      size_t image = 0;
      for (int32_t r = 0; r < s.rows; ++r) {
        if (image_index[static_cast<size_t>(s.row0 + r)] < 0 || kept[image++]) expected.push_back(s.row0 + r);
      }
    }
    CHECK(source.read() == expected);
  }
};

TEST("ranks by counting and compacts in order, at awkward sizes") {
  Random random(1);
  for (const int32_t alive : {1, 31, 32, 33, 37, 577}) {
    Cut cut;
    cut.add(random, alive + 9, 4, alive, alive / 2);
    cut.add(random, alive, 0, alive, alive, 1);
    cut.add(random, alive + 1, 1, alive, 0);
    cut.check();
  }
}

TEST("equal scores go to the lower index, NaN goes last") {
  Random random(2);
  Cut cut;
  cut.add(random, 50, 5, 40, 13);
  for (float& sum : cut.sums) sum = std::floor(sum * 2);  // many equals
  cut.check();
  cut.sums[0] = NAN;
  cut.sums[7] = INFINITY;
  cut.check();
}

TEST("groups, the largest head, weights, given ranks, nothing cut, no image") {
  Random random(3);
  Cut cut;
  cut.add(random, 30, 3, 20, 7, 3, 4).group = 2;
  SelectSequence& largest = cut.add(random, 30, 3, 20, 7);
  largest.heads_max = 1;
  cut.weights = random_values<float>(random, 60, 1);
  SelectSequence& weighted = cut.add(random, 25, 0, 20, 11);
  weighted.weights = 10;
  SelectSequence& given = cut.add(random, 25, 2, 20, 3);
  given.ranks = 1;
  cut.ranks = {99, 0, 4, 19};
  SelectSequence& blind = cut.add(random, 12, 2, 6, 2);
  blind.sums = blind.scores = -1;
  blind.ranks = 1;
  SelectSequence& whole = cut.add(random, 12, 2, 6, 6);
  whole.sums = whole.scores = -1;
  SelectSequence& text = cut.add(random, 600, 0, 0, 0);
  text.sums = text.scores = -1;
  cut.check();
}

struct Logits {
  int32_t vocabulary;
  std::vector<float> values;  // (rows, vocabulary)
  std::vector<int32_t> start{0}, tokens;
  std::vector<float> add, multiply;
  std::vector<std::vector<uint32_t>> masks;  // per row; empty: none

  void check() const {
    const auto rows = static_cast<int64_t>(values.size()) / vocabulary;
    std::vector<std::unique_ptr<Input<uint32_t>>> device_masks;
    std::vector<const uint32_t*> mask_rows;
    for (const auto& mask : masks) {
      device_masks.push_back(std::make_unique<Input<uint32_t>>(mask));
      mask_rows.push_back(mask.empty() ? nullptr : device_masks.back()->get());
    }
    const Input<const uint32_t*> device_mask_rows(mask_rows);
    const Input<int32_t> device_start(start), device_tokens(tokens);
    const Input<float> device_add(add), device_multiply(multiply);
    Output<float> logits(values), best(static_cast<size_t>(rows * kCandidates)), lse(static_cast<size_t>(rows));
    Output<int32_t> ids(static_cast<size_t>(rows * kCandidates));
    test::launched(launch_candidates({.logits = logits.get(), .rows = rows, .vocabulary = vocabulary, .adjust_start = device_start.get(),
                                      .adjust_tokens = device_tokens.get(), .adjust_add = device_add.get(), .adjust_multiply = device_multiply.get(),
                                      .masks = device_mask_rows.get(), .ids = ids.get(), .best = best.get(), .log_sum_exp = lse.get()},
                                     nullptr));
    logits.read();
    const std::vector<int32_t> got_ids = ids.read();
    const std::vector<float> got_best = best.read(), got_lse = lse.read();
    for (int64_t r = 0; r < rows; ++r) {
      std::vector<float> x(values.begin() + r * vocabulary, values.begin() + (r + 1) * vocabulary);
      for (int32_t i = start[static_cast<size_t>(r)]; i < start[static_cast<size_t>(r) + 1]; ++i) {
        const auto at = static_cast<size_t>(i);
        float& value = x[static_cast<size_t>(tokens[at])];
        value = (value < 0 ? value * multiply[at] : value / multiply[at]) + add[at];
      }
      bool strange = false;
      for (int32_t t = 0; t < vocabulary; ++t) {
        const auto& mask = masks[static_cast<size_t>(r)];
        float& value = x[static_cast<size_t>(t)];
        if (!mask.empty() && !(mask[static_cast<size_t>(t / 32)] >> (t % 32) & 1)) value = -INFINITY;
        strange |= std::isnan(value);
        if (std::isnan(value)) value = -INFINITY;
      }
      std::vector<int32_t> order(x.size());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return x[static_cast<size_t>(a)] > x[static_cast<size_t>(b)]; });
      for (int32_t i = 0; i < kCandidates; ++i) {
        const auto at = static_cast<size_t>(r * kCandidates + i);
        const bool there = i < vocabulary;
        CHECK_EQ(got_ids[at], there ? order[static_cast<size_t>(i)] : -1);
        CHECK_EQ(got_best[at], there ? x[static_cast<size_t>(order[static_cast<size_t>(i)])] : -INFINITY);
      }
      const double high = static_cast<double>(x[static_cast<size_t>(order[0])]);
      double sum = 0;
      for (const float value : x) sum += std::exp(static_cast<double>(value) - high);
      const auto got = static_cast<double>(got_lse[static_cast<size_t>(r)]);
      if (strange) CHECK(std::isnan(got));
      else if (std::isinf(high)) CHECK_EQ(got, high);
      else CHECK(std::abs(got - (high + std::log(sum))) <= 2e-6 * (1 + std::abs(got)));
    }
  }
};

Logits logits_of(Random& random, int32_t vocabulary, int32_t rows) {
  Logits logits{.vocabulary = vocabulary, .values = random_values<float>(random, int64_t{vocabulary} * rows, 9)};
  logits.start.assign(static_cast<size_t>(rows) + 1, 0);
  logits.masks.resize(static_cast<size_t>(rows));
  return logits;
}

TEST("the best 64 at awkward vocabularies") {
  Random random(4);
  for (const int32_t vocabulary : {1, 63, 64, 65, 513, 2050}) logits_of(random, vocabulary, 2).check();
}

TEST("equal logits go by id, across the edge of the best too") {
  Random random(5);
  Logits logits = logits_of(random, 700, 2);
  for (float& value : logits.values) value = std::floor(value / 4);
  logits.values[3] = -0.0f;
  logits.check();
  logits.values.assign(1400, 1.5f);
  logits.check();
}

TEST("adjustments, masks, infinities and what is no number") {
  Random random(6);
  Logits logits = logits_of(random, 300, 5);
  logits.start = {0, 3, 3, 4, 4, 4};
  logits.tokens = {7, 299, 8, 0};
  logits.add = {5, -100, -INFINITY, 1};
  logits.multiply = {1.3f, 1, 1, 2};
  logits.masks[1].assign(10, 0);
  logits.masks[1][2] = 0x00f0f00f;
  logits.values[2 * 300 + 5] = INFINITY;
  logits.values[3 * 300 + 5] = NAN;
  for (int32_t t = 0; t < 300; ++t) logits.values[static_cast<size_t>(4 * 300 + t)] = -INFINITY;
  logits.values[300] = NAN;  // of a token that the mask forbids
  logits.check();
}

}  // namespace
}  // namespace himap

TEST_MAIN()
