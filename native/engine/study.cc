#include "native/engine/study.h"

namespace himap {
namespace {

constexpr size_t kPrefixGroup = kVoterSets;  // study_sums puts the prefix behind the voter sets
constexpr size_t kGroups = kVoterSets + 1;

/** 0 prefix, 1 image, 2 instruction. */
size_t part_of(uint8_t votes) { return votes & kVotesImage ? 1 : votes & kVotesInstruction ? 2 : 0; }

}  // namespace

void append_study(const float* sums, int64_t heads, const std::vector<uint8_t>& votes, StepResult& result) {
  const size_t rows = votes.size();
  const auto tiles = static_cast<size_t>(query_tiles(static_cast<int64_t>(rows)));
  const auto n_heads = static_cast<size_t>(heads);
  std::vector<size_t> image_rows;
  for (size_t row = 0; row < rows; ++row) {
    if (votes[row] & kVotesImage) image_rows.push_back(row);
  }
  std::vector<float> colsum(kVoterSets * n_heads * image_rows.size());
  std::vector<float> blocks(n_heads * 9);
  std::vector<float> columns(rows);  // one head and group, tiles added in ascending order
  constexpr size_t kReceivers[3] = {kPrefixGroup, static_cast<size_t>(Voters::kImage), static_cast<size_t>(Voters::kInstruction)};
  for (size_t head = 0; head < n_heads; ++head) {
    for (size_t group = 0; group < kGroups; ++group) {
      columns.assign(rows, 0);
      for (size_t tile = 0; tile < tiles; ++tile) {
        const float* part = sums + ((head * tiles + tile) * kGroups + group) * rows;
        for (size_t column = 0; column < rows; ++column) columns[column] += part[column];
      }
      if (group < kVoterSets) {
        float* out = colsum.data() + (group * n_heads + head) * image_rows.size();
        for (size_t i = 0; i < image_rows.size(); ++i) out[i] = columns[image_rows[i]];
      }
      for (size_t receiver = 0; receiver < 3; ++receiver) {
        if (kReceivers[receiver] != group) continue;
        double mass[3] = {0, 0, 0};
        for (size_t column = 0; column < rows; ++column) mass[part_of(votes[column])] += columns[column];
        for (size_t source = 0; source < 3; ++source) blocks[head * 9 + receiver * 3 + source] = static_cast<float>(mass[source]);
      }
    }
  }
  result.colsum.push_back(std::move(colsum));
  result.blocks.push_back(std::move(blocks));
}

}  // namespace himap
