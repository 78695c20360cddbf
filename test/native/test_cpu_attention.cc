// attention_prefill of the CPU backend: values, column sums, and sequences that do not know their neighbours.
#include "test/native/cpu_fixture.h"

using namespace himap;
using namespace himap::test;

namespace {

struct Voting {
  std::vector<uint8_t> votes;  // (rows)
  std::vector<uint8_t> masks;  // (groups)
  std::vector<int32_t> columns;  // (sequences, 2)
};

struct Prompts {
  Heads heads;
  std::vector<int32_t> cu_rows;
  std::vector<float> qkv;
  bool causal;
  float scale;
  Voting voting;

  int32_t sequences() const { return static_cast<int32_t>(cu_rows.size()) - 1; }
  int32_t length(int32_t s) const { return cu_rows[s + 1] - cu_rows[s]; }
  int64_t tiles(int32_t s) const { return (length(s) + kQueryTile - 1) / kQueryTile; }
  int64_t groups() const { return static_cast<int64_t>(voting.masks.size()); }
  int64_t columns(int32_t s) const { return voting.masks.empty() ? 0 : voting.columns[2 * s + 1] - voting.columns[2 * s]; }
  int64_t block(int32_t s) const { return heads.heads * tiles(s) * groups() * columns(s); }
};

Prompts make(const Heads& heads, const std::vector<int32_t>& lengths, bool causal, bool votes, uint32_t seed) {
  Random random(seed);
  Prompts p{heads, {0}, {}, causal, 1 / std::sqrt(static_cast<float>(heads.head_dim)), {}};
  for (int32_t length : lengths) p.cu_rows.push_back(p.cu_rows.back() + length);
  p.qkv = random.normals(p.cu_rows.back() * heads.qkv_width());
  for (float& value : p.qkv) value *= 2;  // scores that differ
  if (!votes) return p;
  p.voting.masks = {kVotesInstruction, kVotesAll, kVotesLast, kVotesImage, kVotesPrefix};
  for (int32_t s = 0; s < p.sequences(); ++s) {
    const int32_t length = p.length(s);
    for (int32_t r = 0; r < length; ++r) {
      // prefix, image, instruction; the first tile of a long prompt has no instruction row
      const uint8_t votes_as = r < length / 4 ? kVotesPrefix : r < length / 2 ? kVotesImage : kVotesInstruction;
      p.voting.votes.push_back(static_cast<uint8_t>(votes_as | (r == length - 1 ? kVotesLast : 0)));
    }
    p.voting.columns.push_back(length / 4);
    p.voting.columns.push_back(s % 3 == 2 ? length / 4 : length / 2 + (length > 1));  // some want none
  }
  return p;
}

template <class Real>
struct Answer {
  std::vector<Real> y;
  std::vector<Real> sums;  // blocks one after the other
};

template <class Real>
Answer<Real> solve(const Prompts& p) {
  const Heads& h = p.heads;
  Answer<Real> answer;
  answer.y.resize(static_cast<size_t>(p.cu_rows.back() * h.y_width()));
  for (int32_t s = 0; s < p.sequences(); ++s) {
    const int64_t base = static_cast<int64_t>(answer.sums.size());
    answer.sums.resize(static_cast<size_t>(base + p.block(s)));
    for (int32_t head = 0; head < h.heads; ++head) {
      const int64_t kv = head / (h.heads / h.kv_heads);
      for (int32_t r = 0; r < p.length(s); ++r) {
        const int32_t seen = p.causal ? r + 1 : p.length(s);
        const auto row = [&](int32_t i) { return p.qkv.data() + (p.cu_rows[s] + i) * h.qkv_width(); };
        std::vector<Real> weights(static_cast<size_t>(seen));
        Real high = -HUGE_VALF;
        for (int32_t c = 0; c < seen; ++c) {
          Real dot = 0;
          for (int32_t d = 0; d < h.head_dim; ++d) {
            dot += static_cast<Real>(row(r)[head * h.head_dim + d]) * static_cast<Real>(row(c)[(h.heads + kv) * h.head_dim + d]);
          }
          weights[c] = dot * static_cast<Real>(p.scale);
          high = std::max(high, weights[c]);
        }
        Real total = 0;
        for (Real& weight : weights) total += weight = std::exp(weight - high);
        for (Real& weight : weights) weight /= total;
        for (int32_t d = 0; d < h.head_dim; ++d) {
          Real sum = 0;
          for (int32_t c = 0; c < seen; ++c) {
            sum += weights[c] * static_cast<Real>(row(c)[(h.heads + h.kv_heads + kv) * h.head_dim + d]);
          }
          answer.y[(p.cu_rows[s] + r) * h.y_width() + head * h.head_dim + d] = sum;
        }
        for (int64_t g = 0; g < p.groups(); ++g) {
          if (!(p.voting.votes[p.cu_rows[s] + r] & p.voting.masks[g])) continue;
          for (int64_t c = 0; c < p.columns(s); ++c) {
            const int64_t column = p.voting.columns[2 * s] + c;
            const int64_t at = base + ((head * p.tiles(s) + r / kQueryTile) * p.groups() + g) * p.columns(s) + c;
            if (column < seen) answer.sums[at] += weights[column];
          }
        }
      }
    }
  }
  return answer;
}

/** Sequences [first, first + n) on a device. */
Answer<float> run(Cpu& cpu, const Prompts& p, int32_t first, int32_t n) {
  std::vector<int32_t> cu_rows;
  std::vector<int64_t> offsets;
  int64_t floats = 0;
  for (int32_t s = first; s <= first + n; ++s) {
    cu_rows.push_back(p.cu_rows[s] - p.cu_rows[first]);
    if (s == first + n) break;
    offsets.push_back(floats);
    floats += p.block(s);
  }
  Fenced<float> y(cu_rows.back() * p.heads.y_width());
  Fenced<float> sums(floats);
  ColumnSums column_sums{.groups = static_cast<int32_t>(p.groups()), .offsets = offsets.data(), .sums = sums.data()};
  const bool votes = p.groups() > 0;
  if (votes) {
    column_sums.votes = p.voting.votes.data() + p.cu_rows[first];
    column_sums.columns = p.voting.columns.data() + 2 * first;
    std::copy(p.voting.masks.begin(), p.voting.masks.end(), column_sums.group_masks);
  }
  const AttentionPrefillParams params{.qkv = p.qkv.data() + p.cu_rows[first] * p.heads.qkv_width(),
                                      .y = y.data(),
                                      .cu_rows = cu_rows.data(),
                                      .sequences = n,
                                      .max_rows = *std::max_element(cu_rows.begin(), cu_rows.end()),
                                      .heads = p.heads.heads,
                                      .kv_heads = p.heads.kv_heads,
                                      .head_dim = p.heads.head_dim,
                                      .scale = p.scale,
                                      .causal = p.causal,
                                      .maybe_column_sums = votes ? &column_sums : nullptr};
  CHECK_OK(cpu, cpu.api.attention_prefill(cpu.device, &params));
  CHECK(y.intact());
  CHECK(sums.intact());
  return {y.take(), sums.take()};
}

const std::vector<int32_t> kLengths = {1, 37, 63, 64, 65, 130, 8};

}  // namespace

TEST("attention_prefill: values and column sums, every head size, causal and full") {
  for (const Heads& heads : {Heads{2, 2, 8}, Heads{4, 2, 40}, Heads{2, 1, 64}, Heads{3, 1, 72}, Heads{2, 2, 128},
                             Heads{1, 1, 264}}) {
    for (bool causal : {true, false}) {
      for (bool votes : {true, false}) {
        const Prompts p = make(heads, kLengths, causal, votes, 5);
        const Answer<double> exact = solve<double>(p);
        const Answer<float> plain = solve<float>(p);
        for_each_cpu(1, [&](Cpu& cpu) {
          const std::string what = std::string(cpu.info.detail) + " head_dim " + std::to_string(heads.head_dim) +
                                   (causal ? " causal" : " full");
          const Answer<float> answer = run(cpu, p, 0, p.sequences());
          check_close(answer.y, exact.y, plain.y, what);
          if (votes) check_close(answer.sums, exact.sums, plain.sums, what + " sums");
        });
      }
    }
  }
}

TEST("attention_prefill: the tower's 577 rows") {
  const Prompts p = make({2, 2, 64}, {577}, false, false, 8);
  const Answer<double> exact = solve<double>(p);
  const Answer<float> plain = solve<float>(p);
  for_each_cpu(1, [&](Cpu& cpu) { check_close(run(cpu, p, 0, 1).y, exact.y, plain.y, cpu.info.detail); });
}

TEST("attention_prefill: a sequence's bits are the same alone, among others and on any number of threads") {
  for (bool causal : {true, false}) {
    const Prompts p = make({4, 2, 40}, kLengths, causal, true, 6);
    for (const char* set : sets()) {
      Cpu one(set, 1);
      const Answer<float> all = run(one, p, 0, p.sequences());
      for (int32_t threads : {2, 3}) {
        Cpu cpu(set, threads);
        const Answer<float> answer = run(cpu, p, 0, p.sequences());
        CHECK(same_bits(answer.y, all.y));
        CHECK(same_bits(answer.sums, all.sums));
      }
      int64_t block = 0;
      for (int32_t s = 0; s < p.sequences(); ++s) {
        const Answer<float> alone = run(one, p, s, 1);
        CHECK(same_bits(alone.y, slice(all.y, p.cu_rows[s] * p.heads.y_width(), p.length(s) * p.heads.y_width())));
        CHECK(same_bits(alone.sums, slice(all.sums, block, p.block(s))));
        block += p.block(s);
      }
    }
  }
}

TEST("attention_prefill: a causal row is the same whatever follows it, and asking for sums changes nothing") {
  const Prompts p = make({2, 1, 64}, {130}, true, true, 9);
  for_each_cpu(1, [&](Cpu& cpu) {
    const std::vector<float> whole = run(cpu, p, 0, 1).y;
    Prompts quiet = p;
    quiet.voting = {};
    CHECK(same_bits(run(cpu, quiet, 0, 1).y, whole));
    for (int32_t length : {1, 5, 63, 64, 65, 100, 129}) {
      quiet.cu_rows = {0, length};
      CHECK(same_bits(run(cpu, quiet, 0, 1).y, slice(whole, 0, length * p.heads.y_width())));
    }
  });
}

TEST("attention_prefill: rows without voters write zeros, and a row's votes are its own") {
  Prompts p = make({2, 2, 16}, {150}, true, true, 10);
  p.voting.masks = {kVotesInstruction, kVotesLast};
  p.voting.columns = {0, 150};
  std::fill(p.voting.votes.begin(), p.voting.votes.end(), kVotesPrefix);
  p.voting.votes[149] = kVotesLast;
  for_each_cpu(1, [&](Cpu& cpu) {
    const std::vector<float> sums = run(cpu, p, 0, 1).sums;
    for (int64_t i = 0; i < static_cast<int64_t>(sums.size()); ++i) {
      const int64_t group = i / 150 % 2;
      const int64_t tile = i / 300 % 3;
      if (group == 0 || tile < 2) CHECK_EQ(sums[i], 0.0f);
    }
    for (int64_t head = 0; head < 2; ++head) {
      double total = 0;
      for (int64_t c = 0; c < 150; ++c) total += sums[(head * 3 + 2) * 300 + 150 + c];
      CHECK(std::fabs(total - 1) < 1e-5);  // one voter, all columns: its probabilities
    }
  });
}

TEST("attention_prefill: large scores neither overflow nor become NaN") {
  Prompts p = make({1, 1, 8}, {100}, true, false, 12);
  for (float& value : p.qkv) value *= 1000;
  for_each_cpu(1, [&](Cpu& cpu) {
    for (float value : run(cpu, p, 0, 1).y) CHECK(std::isfinite(value));
  });
}

TEST("attention_prefill: what would corrupt is refused") {
  Cpu cpu("portable");
  std::vector<float> memory(4096);
  const int32_t cu_rows[2] = {0, 4};
  const int32_t descending[2] = {4, 0};
  const uint8_t votes[4] = {};
  const int32_t columns[2] = {0, 4};
  const int32_t beyond[2] = {0, 5};
  const int64_t offset = 0;
  const AttentionPrefillParams good{.qkv = memory.data(), .y = memory.data() + 2048, .cu_rows = cu_rows, .sequences = 1,
                                    .max_rows = 4, .heads = 2, .kv_heads = 1, .head_dim = 8, .scale = 1, .causal = true};
  const ColumnSums good_sums{.votes = votes, .group_masks = {1}, .groups = 1, .columns = columns, .offsets = &offset,
                             .sums = memory.data() + 3072};
  const auto refused = [&](auto change) {
    AttentionPrefillParams params = good;
    ColumnSums sums = good_sums;
    params.maybe_column_sums = &sums;
    change(params, sums);
    CHECK_REFUSED(cpu, cpu.api.attention_prefill(cpu.device, &params), Code::ERR_INVALID_ARG, "attention_prefill");
  };
  using P = AttentionPrefillParams;
  refused([](P& p, ColumnSums&) { p.head_dim = 12; });
  CHECK_EQ(std::string(cpu.api.last_error(cpu.device)),
           std::string("[attention_prefill] head_dim must be a positive multiple of 8; got 12"));
  refused([](P& p, ColumnSums&) { p.head_dim = 0; });
  refused([](P& p, ColumnSums&) { p.kv_heads = 0; });
  refused([](P& p, ColumnSums&) { p.heads = 3; p.kv_heads = 2; });
  refused([](P& p, ColumnSums&) { p.sequences = -1; });
  refused([](P& p, ColumnSums&) { p.qkv = nullptr; });
  refused([](P& p, ColumnSums&) { p.y = nullptr; });
  refused([](P& p, ColumnSums&) { p.cu_rows = nullptr; });
  refused([&](P& p, ColumnSums&) { p.cu_rows = descending; });
  refused([](P&, ColumnSums& s) { s.groups = 6; });
  refused([](P&, ColumnSums& s) { s.votes = nullptr; });
  refused([&](P&, ColumnSums& s) { s.columns = beyond; });
  refused([](P&, ColumnSums& s) { s.sums = nullptr; });
}
