// Attention of whole prompts: a task takes query tiles of one head of one sequence.
#include <algorithm>
#include <vector>

#include "native/backend/cpu/device.h"
#include "native/backend/cpu/scratch.h"

namespace himap {
namespace {

constexpr const char* kWhere = "attention_prefill";

void check_params(const AttentionPrefillParams& p) {
  check(p.sequences >= 0, kWhere, "sequences must be at least 0", p.sequences);
  check_heads(kWhere, p.heads, p.kv_heads, p.head_dim);
  if (p.sequences == 0) return;
  check_pointer(p.cu_rows, kWhere, "cu_rows");
  check(p.cu_rows[0] >= 0, kWhere, "cu_rows must begin at 0 or later", p.cu_rows[0]);
  for (int32_t s = 0; s < p.sequences; ++s) {
    check(p.cu_rows[s + 1] >= p.cu_rows[s], kWhere, "cu_rows must ascend", p.cu_rows[s + 1]);
  }
  if (p.cu_rows[p.sequences] == p.cu_rows[0]) return;
  check_pointer(p.qkv, kWhere, "qkv");
  check_pointer(p.y, kWhere, "y");
  if (!p.maybe_column_sums) return;
  const ColumnSums& sums = *p.maybe_column_sums;
  check(sums.groups > 0 && sums.groups <= kMaxVoterGroups, kWhere, "voter groups must be 1 to 5", sums.groups);
  check_pointer(sums.votes, kWhere, "votes");
  check_pointer(sums.columns, kWhere, "columns");
  check_pointer(sums.offsets, kWhere, "offsets");
  check_pointer(sums.sums, kWhere, "sums");
  for (int32_t s = 0; s < p.sequences; ++s) {
    const int32_t first = sums.columns[2 * s];
    const int32_t end = sums.columns[2 * s + 1];
    check(first >= 0 && first <= end, kWhere, "a sequence's columns must begin within it and ascend", first);
    check(end <= p.cu_rows[s + 1] - p.cu_rows[s], kWhere, "a sequence's columns must end within it", end);
  }
}

int64_t query_tiles(int64_t length) { return (length + kQueryTile - 1) / kQueryTile; }

}  // namespace

void attention_prefill(Device& device, const AttentionPrefillParams& params) {
  check_params(params);
  int64_t all_tiles = 0;
  for (int32_t s = 0; s < params.sequences; ++s) {
    all_tiles += query_tiles(params.cu_rows[s + 1] - params.cu_rows[s]) * params.heads;
  }
  // Tiles of a task share packed keys and values; but there are to be tasks enough to keep every thread busy to the end.
  const int64_t task_tiles = std::clamp<int64_t>(all_tiles / (8 * device.pool.threads()), 1, kTaskRows / kQueryTile);
  const auto tasks_of = [task_tiles](int64_t tiles) { return (tiles + task_tiles - 1) / task_tiles; };
  std::vector<int64_t> starts(1, 0);  // (sequences + 1) first task of each sequence
  for (int32_t s = 0; s < params.sequences; ++s) {
    starts.push_back(starts.back() + tasks_of(query_tiles(params.cu_rows[s + 1] - params.cu_rows[s])) * params.heads);
  }
  const int64_t qkv_stride = (int64_t{params.heads} + 2 * params.kv_heads) * params.head_dim;
  const int64_t y_stride = int64_t{params.heads} * params.head_dim;
  const AttentionScratchLayout layout(params.head_dim);
  device.pool.parallel_for(starts.back(), 1, [&](int64_t begin, int64_t end, int32_t thread) {
    float* scratch = device.scratch[thread].grow(layout.floats);
    for (int64_t task = begin; task < end; ++task) {
      const auto s = static_cast<int32_t>(std::upper_bound(starts.begin(), starts.end(), task) - starts.begin() - 1);
      const int32_t row0 = params.cu_rows[s];
      const int32_t length = params.cu_rows[s + 1] - row0;
      const int64_t tiles = query_tiles(length);
      const int64_t tasks = tasks_of(tiles);
      const auto head = static_cast<int32_t>((task - starts[s]) / tasks);
      // Late tiles of a causal prompt are the long ones: they go first, so that no thread ends on one.
      const int64_t tile = (tasks - 1 - (task - starts[s]) % tasks) * task_tiles;
      const int32_t kv_head = head / (params.heads / params.kv_heads);
      const float* rows = static_cast<const float*>(params.qkv) + row0 * qkv_stride;
      const auto first = static_cast<int32_t>(tile * kQueryTile);
      AttentionTask t{.q = rows + int64_t{head} * params.head_dim,
                      .k = rows + (int64_t{params.heads} + kv_head) * params.head_dim,
                      .v = rows + (int64_t{params.heads} + params.kv_heads + kv_head) * params.head_dim,
                      .y = static_cast<float*>(params.y) + row0 * y_stride + int64_t{head} * params.head_dim,
                      .qkv_stride = qkv_stride,
                      .y_stride = y_stride,
                      .length = length,
                      .first = first,
                      .rows = std::min(static_cast<int32_t>(task_tiles) * kQueryTile, length - first),
                      .head_dim = params.head_dim,
                      .scale = params.scale,
                      .causal = params.causal};
      const ColumnSums* sums = params.maybe_column_sums;
      const int32_t columns = sums ? sums->columns[2 * s + 1] - sums->columns[2 * s] : 0;
      if (columns > 0) {
        t.maybe_votes = sums->votes + row0 + first;
        t.group_masks = sums->group_masks;
        t.groups = sums->groups;
        t.first_column = sums->columns[2 * s];
        t.end_column = sums->columns[2 * s + 1];
        t.sums = sums->sums + sums->offsets[s] + (head * tiles + tile) * sums->groups * columns;
      }
      device.kernels.attention_task(t, scratch);
    }
  });
}

}  // namespace himap
