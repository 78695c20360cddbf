#include "native/engine/batch.h"

#include <algorithm>

#include "kernels/attention_prefill/attention_prefill.h"

namespace himap {
namespace {

void append_rows(PrefillBatch& batch, const StepSequence& sequence, int64_t image_tokens) {
  const auto first = static_cast<int64_t>(batch.source.size());
  const int64_t rows = sequence.rows();
  batch.source.insert(batch.source.end(), sequence.ids.begin(), sequence.ids.end());
  batch.positions.insert(batch.positions.end(), sequence.positions.begin(), sequence.positions.end());
  batch.votes.resize(static_cast<size_t>(first + rows), kVotesPrefix);
  batch.image_index.resize(static_cast<size_t>(first + rows), -1);
  int32_t image_row = 0;
  for (const StepSpan& span : sequence.spans) {
    for (int64_t r = 0; r < span.count; ++r) {
      const auto row = static_cast<size_t>(first + span.start + r);
      batch.source[row] = static_cast<int32_t>(-1 - (span.image * image_tokens + r));
      batch.votes[row] = kVotesImage;
      batch.image_index[row] = image_row++;
    }
  }
  if (!sequence.spans.empty()) {
    const StepSpan& last = sequence.spans.back();
    for (int64_t row = last.start + last.count; row < rows; ++row) batch.votes[static_cast<size_t>(first + row)] = kVotesInstruction;
  }
  batch.votes[static_cast<size_t>(first + rows - 1)] |= kVotesLast;
}

Segment make_segment(const PrefillBatch& batch, int64_t first, int64_t end) {
  Segment segment;
  segment.first = first;
  segment.end = end;
  segment.cu_rows.push_back(0);
  for (int32_t s = 0; s < batch.size(); ++s) {
    // The stage that holds the segment; for the empty segment before a cut at layer 0, the uncut one.
    const auto& stages = batch.stages[static_cast<size_t>(s)];
    const Stage& stage = end == 0 ? stages[0] : stages[stage_of(stages, first)];
    for (int64_t row = 0; row < stage.tokens; ++row) {
      segment.row_sequence.push_back(s);
      segment.row_slot.push_back(static_cast<int32_t>(row));
    }
    segment.rows += stage.tokens;
    segment.max_rows = std::max(segment.max_rows, stage.tokens);
    segment.cu_rows.push_back(static_cast<int32_t>(segment.rows));
    segment.image_rows.push_back(static_cast<int32_t>(stage.image_tokens));
  }
  return segment;
}

/** First column and the one after the last that can hold an image row, in a sequence with `alive` of them left. */
std::pair<int32_t, int32_t> image_columns(const StepSequence& sequence, int64_t alive) {
  if (alive == 0) return {0, 0};
  const int64_t first = sequence.spans.front().start;
  const StepSpan& last = sequence.spans.back();
  const int64_t between = last.start + last.count - first - sequence.image_rows();  // text between two images
  return {static_cast<int32_t>(first), static_cast<int32_t>(first + alive + between)};
}

void lay_out(SumsLayout& sums, const Segment& segment, int64_t heads, int32_t sequence, int32_t begin, int32_t end) {
  const int64_t rows = segment.cu_rows[static_cast<size_t>(sequence) + 1] - segment.cu_rows[static_cast<size_t>(sequence)];
  sums.columns.push_back(begin);
  sums.columns.push_back(end);
  sums.offsets.push_back(sums.floats);
  sums.floats += heads * query_tiles(rows) * static_cast<int64_t>(sums.masks.size()) * (end - begin);
}

}  // namespace

std::vector<Stage> stages_of(const StepSequence& sequence, int64_t layers) {
  PlanJob job{.layers = layers, .length = sequence.rows(), .image_tokens = sequence.image_rows(), .new_tokens = 0, .cuts = {}};
  for (const StepCut& cut : sequence.cuts) job.cuts.push_back({cut.before, cut.keep});
  return plan_stages(job);
}

int32_t query_tiles(int64_t rows) { return static_cast<int32_t>((rows + kQueryTile - 1) / kQueryTile); }

const StepCut* cut_before(const StepSequence& sequence, int64_t layer) {
  for (const StepCut& cut : sequence.cuts) {
    if (cut.before == layer) return &cut;
  }
  return nullptr;
}

PrefillBatch make_prefill_batch(const std::vector<const StepSequence*>& sequences, int64_t layers, int64_t image_tokens) {
  PrefillBatch batch;
  batch.sequences = sequences;
  std::vector<int64_t> borders{layers};
  for (const StepSequence* sequence : sequences) {
    batch.stages.push_back(stages_of(*sequence, layers));
    append_rows(batch, *sequence, image_tokens);
    for (const StepCut& cut : sequence->cuts) borders.push_back(cut.before);
  }
  std::sort(borders.begin(), borders.end());
  borders.erase(std::unique(borders.begin(), borders.end()), borders.end());
  int64_t first = 0;
  for (const int64_t border : borders) {
    batch.segments.push_back(make_segment(batch, first, border));
    first = border;
  }
  return batch;
}

SumsLayout study_sums(const Segment& segment, int64_t heads) {
  SumsLayout sums;
  sums.masks.assign(kVoterMasks, kVoterMasks + kVoterSets);
  sums.masks.push_back(kVotesPrefix);
  for (size_t s = 0; s + 1 < segment.cu_rows.size(); ++s) {
    lay_out(sums, segment, heads, static_cast<int32_t>(s), 0, segment.cu_rows[s + 1] - segment.cu_rows[s]);
  }
  return sums;
}

SumsLayout cut_sums(const PrefillBatch& batch, const Segment& segment, int64_t heads) {
  SumsLayout sums;
  const auto ranked_cut = [&](size_t s) {
    const StepCut* cut = cut_before(*batch.sequences[s], segment.end);
    return cut && cut->ranked && segment.image_rows[s] > 0 ? cut : nullptr;
  };
  for (size_t s = 0; s < batch.sequences.size(); ++s) {
    const StepCut* cut = ranked_cut(s);
    if (!cut) continue;
    const uint8_t mask = kVoterMasks[static_cast<int32_t>(cut->voters)];
    if (std::find(sums.masks.begin(), sums.masks.end(), mask) == sums.masks.end()) sums.masks.push_back(mask);
  }
  for (size_t s = 0; s < batch.sequences.size(); ++s) {
    const auto [begin, end] = ranked_cut(s) ? image_columns(*batch.sequences[s], segment.image_rows[s]) : std::pair<int32_t, int32_t>{0, 0};
    lay_out(sums, segment, heads, static_cast<int32_t>(s), begin, end);
  }
  return sums;
}

Selection make_selection(const PrefillBatch& batch, const Segment& from, const Segment& to, const SumsLayout& sums) {
  Selection selection;
  for (size_t s = 0; s < batch.sequences.size(); ++s) {
    const StepSequence& sequence = *batch.sequences[s];
    SelectSequence select{};
    select.row0 = from.cu_rows[s];
    select.rows = from.cu_rows[s + 1] - from.cu_rows[s];
    select.out_row0 = to.cu_rows[s];
    select.alive = from.image_rows[s];
    select.keep = to.image_rows[s];
    select.sums = select.ranks = select.weights = select.scores = -1;
    const StepCut* cut = cut_before(sequence, from.end);
    if (cut && cut->ranked && select.alive > 0) {
      const uint8_t mask = kVoterMasks[static_cast<int32_t>(cut->voters)];
      select.group = static_cast<int32_t>(std::find(sums.masks.begin(), sums.masks.end(), mask) - sums.masks.begin());
      select.groups = static_cast<int32_t>(sums.masks.size());
      select.column0 = sums.columns[2 * s];
      select.columns = sums.columns[2 * s + 1] - sums.columns[2 * s];
      select.query_tiles = query_tiles(select.rows);
      select.heads_max = cut->heads_max ? 1 : 0;
      select.sums = sums.offsets[s];
      if (!cut->weights.empty()) {
        select.weights = static_cast<int64_t>(selection.weights.size());
        selection.weights.insert(selection.weights.end(), cut->weights.begin(), cut->weights.end());
      }
      if (sequence.return_scores || sequence.study_scores) {
        select.scores = selection.scores;
        selection.scores += select.alive;
      }
    } else if (cut && !cut->ranked) {
      select.ranks = static_cast<int64_t>(selection.ranks.size());
      selection.ranks.insert(selection.ranks.end(), cut->ranks.begin(), cut->ranks.end());
    }
    selection.sequences.push_back(select);
  }
  return selection;
}

}  // namespace himap
