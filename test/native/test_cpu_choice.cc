// select and candidates of the CPU backend: which image rows survive, which tokens may follow.
#include "test/native/cpu_fixture.h"

using namespace himap;
using namespace himap::test;

namespace {

/** A batch before a cut: sums of small integers, so that float32 adds them exactly and ties are real ties. */
struct Cut {
  int32_t heads = 4;
  std::vector<SelectSequence> sequences;
  std::vector<float> sums, weights;
  std::vector<int32_t> ranks, image_index;
  int64_t scores = 0;
  int32_t out_rows = 0;

  void add(int32_t before, int32_t alive, int32_t after, int32_t keep, int32_t heads_max, int range, bool weighted,
           Random& random) {
    SelectSequence s{};
    s.row0 = static_cast<int32_t>(image_index.size());
    s.rows = before + alive + after;
    s.out_row0 = out_rows;
    s.keep = keep;
    s.alive = alive;
    s.column0 = before;
    s.columns = alive;
    s.query_tiles = (s.rows + 63) / 64;
    s.groups = 3;
    s.group = 1;
    s.heads_max = heads_max;
    s.sums = static_cast<int64_t>(sums.size());
    s.ranks = -1;
    s.weights = weighted ? static_cast<int64_t>(weights.size()) : -1;
    s.scores = scores;
    for (int32_t r = 0; r < s.rows; ++r) image_index.push_back(r < before || r >= before + alive ? -1 : 2 * (r - before));
    for (int64_t i = 0; i < int64_t{heads} * s.query_tiles * s.groups * s.columns; ++i) {
      sums.push_back(static_cast<float>(random.below(range)));
    }
    if (weighted) {
      for (int32_t i = 0; i < 2 * alive; ++i) weights.push_back(static_cast<float>(random.below(3)));
    }
    scores += alive;
    out_rows += before + after + keep;
    sequences.push_back(s);
  }

  SelectParams params(Fenced<int32_t>& source, Fenced<float>& out_scores) const {
    return {.sequences = sequences.data(), .n = static_cast<int32_t>(sequences.size()), .heads = heads,
            .maybe_sums = sums.data(), .maybe_ranks = ranks.data(), .maybe_weights = weights.data(),
            .image_index = image_index.data(), .maybe_scores = out_scores.data(), .source = source.data()};
  }

  /** Scores in float64; NaN counts as -infinity. */
  std::vector<double> model_scores(const SelectSequence& s) const {
    std::vector<double> result;
    for (int32_t i = 0; i < s.alive; ++i) {
      double joined = s.heads_max ? -HUGE_VAL : 0;
      bool nan = false;
      for (int32_t head = 0; head < heads; ++head) {
        double sum = 0;
        for (int32_t tile = 0; tile < s.query_tiles; ++tile) {
          sum += sums[s.sums + ((int64_t{head} * s.query_tiles + tile) * s.groups + s.group) * s.columns + i];
        }
        nan = nan || std::isnan(sum);
        joined = s.heads_max ? std::max(joined, sum) : joined + sum / heads;
      }
      if (s.weights >= 0) joined *= weights[s.weights + 2 * i];
      result.push_back(nan || std::isnan(joined) ? -HUGE_VAL : joined);
    }
    return result;
  }

  std::vector<int32_t> model_source(const SelectSequence& s) const {
    const std::vector<double> score = model_scores(s);
    std::vector<int32_t> source;
    for (int32_t r = 0; r < s.rows; ++r) {
      const int32_t i = r - s.column0;
      int32_t rank = 0;
      if (i >= 0 && i < s.alive) {
        for (int32_t j = 0; j < s.alive; ++j) rank += score[j] > score[i] || (score[j] == score[i] && j < i);
        if (rank >= s.keep) continue;
      }
      source.push_back(s.row0 + r);
    }
    return source;
  }
};

}  // namespace

TEST("select: against float64, with ties, weights, both joins, several sequences") {
  for (int range : {2, 5, 1000}) {
    Random random(static_cast<uint32_t>(range));
    Cut cut;
    cut.add(3, 577, 40, 288, 0, range, false, random);
    cut.add(0, 64, 1, 63, 1, range, true, random);
    cut.add(5, 37, 0, 0, 0, range, true, random);
    cut.add(70, 1, 70, 1, 1, range, false, random);
    cut.add(2, 65, 9, 65, 0, range, false, random);
    cut.add(8, 0, 8, 0, 0, range, false, random);
    for_each_cpu(2, [&](Cpu& cpu) {
      Fenced<int32_t> source(cut.out_rows);
      Fenced<float> scores(cut.scores);
      const SelectParams params = cut.params(source, scores);
      CHECK_OK(cpu, cpu.api.select(cpu.device, &params));
      CHECK(source.intact() && scores.intact());
      for (const SelectSequence& s : cut.sequences) {
        const std::vector<int32_t> expected = cut.model_source(s);
        for (size_t i = 0; i < expected.size(); ++i) CHECK_EQ(source[s.out_row0 + static_cast<int64_t>(i)], expected[i]);
        const std::vector<double> model = cut.model_scores(s);
        for (int32_t i = 0; i < s.alive; ++i) CHECK_EQ(static_cast<double>(scores[s.scores + i]), model[i]);
      }
    });
  }
}

TEST("select: NaN ranks last and never lets more survive than were asked for") {
  for (int32_t heads_max : {0, 1}) {
    Random random(17);
    Cut cut;
    cut.add(2, 40, 3, 20, heads_max, 9, false, random);
    for (size_t i = 0; i < cut.sums.size(); i += 5) cut.sums[i] = kNan;
    for_each_cpu(1, [&](Cpu& cpu) {
      Fenced<int32_t> source(cut.out_rows);
      Fenced<float> scores(cut.scores);
      const SelectParams params = cut.params(source, scores);
      CHECK_OK(cpu, cpu.api.select(cpu.device, &params));
      CHECK(source.intact() && scores.intact());
      const std::vector<int32_t> expected = cut.model_source(cut.sequences[0]);
      CHECK_EQ(expected.size(), size_t{25});
      for (size_t i = 0; i < expected.size(); ++i) CHECK_EQ(source[static_cast<int64_t>(i)], expected[i]);
    });
  }
}

TEST("select: given ranks, nothing to cut, and what is refused") {
  Random random(5);
  Cut cut;
  cut.add(2, 8, 3, 3, 0, 9, false, random);
  cut.add(1, 4, 1, 4, 0, 9, false, random);
  cut.ranks = {1, 4, 7};
  cut.sequences[0].ranks = 0;
  for (SelectSequence& s : cut.sequences) s.sums = s.scores = -1;
  for_each_cpu(1, [&](Cpu& cpu) {
    Fenced<int32_t> source(cut.out_rows);
    Fenced<float> scores(1);
    const SelectParams params = cut.params(source, scores);
    CHECK_OK(cpu, cpu.api.select(cpu.device, &params));
    CHECK(source.intact());
    const std::vector<int32_t> expected = {0, 1, 3, 6, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18};
    CHECK(source.take() == expected);
    const auto refused = [&](auto change) {
      Cut wrong = cut;
      change(wrong);
      const SelectParams wrong_params = wrong.params(source, scores);
      CHECK_REFUSED(cpu, cpu.api.select(cpu.device, &wrong_params), Code::ERR_INVALID_ARG, "select");
    };
    refused([](Cut& c) { c.ranks = {1, 1, 7}; });
    refused([](Cut& c) { c.ranks = {1, 4, 8}; });
    refused([](Cut& c) { c.sequences[1].keep = 2; });
    refused([](Cut& c) { c.sequences[0].keep = 9; });
    refused([](Cut& c) { c.sequences[0].alive = 7; });
    refused([](Cut& c) { c.sequences[0].scores = 0; });
    refused([](Cut& c) { c.sequences[1].sums = 0; c.sequences[1].column0 = 2; });
    refused([](Cut& c) { c.sequences[1].sums = 0; c.sequences[1].group = 3; });
  });
}

namespace {

struct Ask {
  int32_t vocabulary;
  std::vector<float> logits;  // (rows, vocabulary)
  std::vector<int32_t> start, tokens;
  std::vector<float> add, multiply;
  std::vector<std::vector<uint32_t>> masks;  // (rows) empty: all

  int64_t rows() const { return static_cast<int64_t>(logits.size()) / vocabulary; }
};

struct Found {
  std::vector<float> logits;
  std::vector<int32_t> ids;
  std::vector<float> best, log_sum_exp;
};

Found find(Cpu& cpu, const Ask& ask) {
  const int64_t rows = ask.rows();
  Fenced<float> logits(rows * ask.vocabulary), best(rows * kCandidates), log_sum_exp(rows);
  Fenced<int32_t> ids(rows * kCandidates);
  std::copy(ask.logits.begin(), ask.logits.end(), logits.data());
  std::vector<const uint32_t*> masks;
  for (int64_t r = 0; r < rows; ++r) masks.push_back(ask.masks.empty() || ask.masks[r].empty() ? nullptr : ask.masks[r].data());
  const std::vector<int32_t> none(static_cast<size_t>(rows + 1), 0);
  const CandidatesParams params{.logits = logits.data(), .rows = rows, .vocabulary = ask.vocabulary,
                                .adjust_start = ask.start.empty() ? none.data() : ask.start.data(),
                                .adjust_tokens = ask.tokens.data(), .adjust_add = ask.add.data(),
                                .adjust_multiply = ask.multiply.data(), .masks = masks.data(), .ids = ids.data(),
                                .best = best.data(), .log_sum_exp = log_sum_exp.data()};
  CHECK_OK(cpu, cpu.api.candidates(cpu.device, &params));
  CHECK(logits.intact() && best.intact() && log_sum_exp.intact() && ids.intact());
  return {logits.take(), ids.take(), best.take(), log_sum_exp.take()};
}

/** What one row should give, from logits that are adjusted already. */
void check_row(const Found& found, int64_t row, std::vector<float> logits, const std::string& what) {
  bool numbers = true;
  for (float& x : logits) {
    numbers = numbers && !std::isnan(x);
    x = std::isnan(x) ? -kInf : x;
  }
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  double sum = 0;
  for (float x : logits) sum += std::exp(static_cast<double>(x) - (std::isinf(logits[order[0]]) ? 0 : logits[order[0]]));
  const double log_sum = std::isinf(logits[order[0]]) ? logits[order[0]] : logits[order[0]] + std::log(sum);
  int wrong = 0;
  for (int32_t i = 0; i < kCandidates; ++i) {
    const bool there = i < static_cast<int32_t>(order.size());
    if (found.ids[row * kCandidates + i] != (there ? order[i] : -1)) ++wrong;
    if (found.best[row * kCandidates + i] != (there ? logits[order[i]] : -kInf)) ++wrong;
  }
  const double got = found.log_sum_exp[row];
  if (!numbers) wrong += !std::isnan(got);
  else if (got != log_sum && !(std::fabs(got - log_sum) <= 2e-6 * std::max(1.0, std::fabs(log_sum)))) ++wrong;
  if (wrong) report(__FILE__, __LINE__, what + " row " + std::to_string(row) + ": " + std::to_string(wrong) + " values differ");
}

}  // namespace

TEST("candidates: the best 64 in order, ties by id, small vocabularies, infinities and NaN") {
  for (int32_t vocabulary : {1, 8, 37, 63, 64, 65, 1000, 32064}) {
    Random random(static_cast<uint32_t>(vocabulary));
    Ask ask{vocabulary, random.normals(int64_t{vocabulary} * 6, 4), {}, {}, {}, {}, {}};
    const auto row = [&](int64_t r) { return ask.logits.data() + r * vocabulary; };
    for (int32_t t = 0; t < vocabulary; ++t) {
      row(1)[t] = static_cast<float>(random.below(5));
      row(2)[t] = -kInf;
      if (t % 3 == 0) row(3)[t] = kNan;
      row(4)[t] = 1000 + row(4)[t];
    }
    row(5)[vocabulary / 2] = kInf;
    for (const char* set : sets()) {
      Cpu cpu(set, 1);
      const Found found = find(cpu, ask);
      for (int64_t r = 0; r < 6; ++r) {
        check_row(found, r, slice(ask.logits, r * vocabulary, vocabulary),
                  std::string(set) + " vocabulary " + std::to_string(vocabulary));
      }
      Cpu more(set, 3);
      const Found again = find(more, ask);
      CHECK(again.ids == found.ids && same_bits(again.log_sum_exp, found.log_sum_exp));
    }
  }
}

TEST("candidates: adjustments first, in their order, then the mask") {
  constexpr int32_t kVocabulary = 100;
  Random random(6);
  Ask ask{kVocabulary, random.normals(3 * kVocabulary, 4), {0, 3, 3, 4}, {7, 7, 50, 99}, {1, -2, 0.5f, -kInf},
          {2, 1, 1.5f, 1}, {}};
  ask.masks = {{}, {0xffffffff, 0x00000001, 0, 0xf}, {}};
  std::vector<float> expected = ask.logits;
  const auto adjust = [&](int64_t row, int32_t token, float add, float multiply) {
    float& x = expected[row * kVocabulary + token];
    x = (x < 0 ? x * multiply : x / multiply) + add;
  };
  adjust(0, 7, 1, 2);
  adjust(0, 7, -2, 1);
  adjust(0, 50, 0.5f, 1.5f);
  adjust(2, 99, -kInf, 1);
  for (int32_t t = 0; t < kVocabulary; ++t) {
    if (!(ask.masks[1][t / 32] >> (t % 32) & 1)) expected[kVocabulary + t] = -kInf;
  }
  for_each_cpu(1, [&](Cpu& cpu) {
    const Found found = find(cpu, ask);
    CHECK(same_bits(found.logits, expected));
    for (int64_t r = 0; r < 3; ++r) check_row(found, r, slice(expected, r * kVocabulary, kVocabulary), cpu.info.detail);
  });
}

TEST("candidates: what would corrupt is refused") {
  Cpu cpu("portable");
  float logits[8] = {}, best[kCandidates], log_sum_exp;
  int32_t ids[kCandidates], start[2] = {0, 1}, token = 8;
  const float one = 1;
  const uint32_t* mask = nullptr;
  CandidatesParams params{.logits = logits, .rows = 1, .vocabulary = 8, .adjust_start = start, .adjust_tokens = &token,
                          .adjust_add = &one, .adjust_multiply = &one, .masks = &mask, .ids = ids, .best = best,
                          .log_sum_exp = &log_sum_exp};
  const auto refused = [&] {
    CHECK_REFUSED(cpu, cpu.api.candidates(cpu.device, &params), Code::ERR_INVALID_ARG, "candidates");
  };
  refused();
  token = -1;
  refused();
  token = 0;
  start[0] = 2;
  refused();
  start[0] = 0;
  params.vocabulary = 0;
  refused();
  params.vocabulary = 8;
  params.masks = nullptr;
  refused();
}
