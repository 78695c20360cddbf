// Scores from column sums, ranks from scores, the gather list from ranks.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "native/backend/cpu/device.h"

namespace himap {
namespace {

constexpr const char* kWhere = "select";

/** Rows of the sequence that hold image tokens, ascending, within the sequence. */
std::vector<int32_t> image_rows(const SelectParams& p, const SelectSequence& s) {
  std::vector<int32_t> rows;
  rows.reserve(static_cast<size_t>(s.alive));
  for (int32_t r = 0; r < s.rows; ++r) {
    if (p.image_index[s.row0 + r] >= 0) rows.push_back(r);
  }
  check(static_cast<int64_t>(rows.size()) == s.alive, kWhere,
        ("a sequence must have as many image rows as it says, " + std::to_string(s.alive)).c_str(),
        static_cast<int64_t>(rows.size()));
  return rows;
}

/** (alive) scores; NaN, which nothing could rank, counts as -infinity. */
std::vector<float> scores_of(const SelectParams& p, const SelectSequence& s, const std::vector<int32_t>& rows) {
  std::vector<float> scores(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    const int32_t column = rows[i] - s.column0;
    check(column >= 0 && column < s.columns, kWhere, "an image row must have a column of the sums", column);
    float joined = 0;
    for (int32_t head = 0; head < p.heads; ++head) {
      float sum = 0;
      for (int32_t tile = 0; tile < s.query_tiles; ++tile) {
        const int64_t block = (int64_t{head} * s.query_tiles + tile) * s.groups + s.group;
        sum += p.maybe_sums[s.sums + block * s.columns + column];
      }
      if (!s.heads_max) joined += sum;
      else joined = head == 0 || sum > joined || std::isnan(sum) ? sum : joined;
    }
    float score = s.heads_max ? joined : joined / static_cast<float>(p.heads);
    if (s.weights >= 0) score *= p.maybe_weights[s.weights + p.image_index[s.row0 + rows[i]]];
    scores[i] = std::isnan(score) ? -std::numeric_limits<float>::infinity() : score;
  }
  return scores;
}

/** (alive) whether each image row survives. */
std::vector<bool> best(const std::vector<float>& scores, int32_t keep) {
  std::vector<int32_t> order(scores.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  const auto before = [&](int32_t a, int32_t b) { return scores[a] > scores[b] || (scores[a] == scores[b] && a < b); };
  if (keep < static_cast<int32_t>(order.size())) std::nth_element(order.begin(), order.begin() + keep, order.end(), before);
  std::vector<bool> kept(scores.size(), false);
  for (int32_t i = 0; i < keep; ++i) kept[order[i]] = true;
  return kept;
}

void check_sequence(const SelectParams& p, const SelectSequence& s) {
  check(s.row0 >= 0 && s.rows >= 0 && s.out_row0 >= 0, kWhere, "a sequence's rows must be at least 0", s.rows);
  check(s.alive >= 0 && s.alive <= s.rows, kWhere, "a sequence's image rows must be among its rows", s.alive);
  check(s.keep >= 0 && s.keep <= s.alive, kWhere, "keep must be 0 to the image rows alive", s.keep);
  if (s.sums >= 0) {
    check_pointer(p.maybe_sums, kWhere, "sums");
    check(p.heads > 0, kWhere, "heads must be positive", p.heads);
    check(s.groups > 0 && s.group >= 0 && s.group < s.groups, kWhere, "the voting group must be one of the groups", s.group);
  }
  if (s.ranks >= 0) check_pointer(p.maybe_ranks, kWhere, "ranks");
  if (s.weights >= 0) check_pointer(p.maybe_weights, kWhere, "weights");
  if (s.scores >= 0) {
    check_pointer(p.maybe_scores, kWhere, "scores");
    check(s.sums >= 0, kWhere, "scores come of sums, which were not given", s.sums);
  }
  check(s.sums >= 0 || s.ranks >= 0 || s.keep == s.alive, kWhere, "a cut needs sums or ranks", s.keep);
}

void select_sequence(const SelectParams& p, const SelectSequence& s) {
  check_sequence(p, s);
  const std::vector<int32_t> rows = image_rows(p, s);
  std::vector<bool> kept(rows.size(), s.keep == s.alive);
  if (s.sums >= 0) {
    const std::vector<float> scores = scores_of(p, s, rows);
    if (s.scores >= 0) std::copy(scores.begin(), scores.end(), p.maybe_scores + s.scores);
    if (s.ranks < 0) kept = best(scores, s.keep);
  }
  if (s.ranks >= 0) {
    kept.assign(rows.size(), false);
    int32_t last = -1;
    for (int32_t i = 0; i < s.keep; ++i) {
      const int32_t rank = p.maybe_ranks[s.ranks + i];
      check(rank > last && rank < s.alive, kWhere, "ranks must ascend below the image rows alive", rank);
      kept[rank] = true;
      last = rank;
    }
  }
  int32_t* source = p.source + s.out_row0;
  size_t image = 0;
  for (int32_t r = 0; r < s.rows; ++r) {
    if (p.image_index[s.row0 + r] >= 0 && !kept[image++]) continue;
    *source++ = s.row0 + r;
  }
}

}  // namespace

void select(Device& device, const SelectParams& params) {
  check(params.n >= 0, kWhere, "n must be at least 0", params.n);
  if (params.n == 0) return;
  check_pointer(params.sequences, kWhere, "sequences");
  check_pointer(params.image_index, kWhere, "image_index");
  check_pointer(params.source, kWhere, "source");
  device.pool.parallel_for(params.n, 1, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t i = begin; i < end; ++i) select_sequence(params, params.sequences[i]);
  });
}

}  // namespace himap
