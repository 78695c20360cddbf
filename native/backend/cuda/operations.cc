// Checks each operation's parameters and launches its kernels.
#include "kernels/attention_decode/launch_attention_decode.h"
#include "kernels/attention_prefill/launch_attention_prefill.h"
#include "kernels/candidates/launch_candidates.h"
#include "kernels/embed/launch_embed.h"
#include "kernels/gather/launch_gather.h"
#include "kernels/norm/launch_norm.h"
#include "kernels/patch_embed/launch_patch_embed.h"
#include "kernels/rope_kv/launch_rope_kv.h"
#include "kernels/select/launch_select.h"
#include "native/backend/cuda/device.h"

namespace himap {
namespace {

constexpr int64_t kGridMost = 65'535;  // of a grid's second and third dimension

void check_rows(const char* where, int64_t rows, int64_t most = INT32_MAX) {
  check(rows >= 0 && rows <= most, where, ("rows must be 0 to " + std::to_string(most)).c_str(), rows);
}

void check_heads(const char* where, int32_t heads, int32_t kv_heads, int32_t head_dim, int32_t most) {
  check(head_dim > 0 && head_dim % 8 == 0 && head_dim <= most, where,
        ("head_dim must be a multiple of 8 up to " + std::to_string(most)).c_str(), head_dim);
  check(kv_heads > 0, where, "kv_heads must be positive", kv_heads);
  check(heads > 0 && heads % kv_heads == 0 && heads <= kGridMost, where, "heads must be a positive multiple of kv_heads", heads);
}

void check_pointers(const char* where, std::initializer_list<std::pair<const void*, const char*>> pointers) {
  for (const auto& [pointer, name] : pointers) check_pointer(pointer, where, name);
}

}  // namespace

void patch_embed(Device& device, const PatchEmbedParams& p) {
  constexpr const char* kWhere = "patch_embed";
  check(p.images >= 0, kWhere, "images must be at least 0", p.images);
  check(p.patch > 0, kWhere, "patch must be positive", p.patch);
  check(p.side > 0 && p.side % p.patch == 0, kWhere, "side must be a positive multiple of the patch", p.side);
  check_pointer(p.weight, kWhere, "weight");
  if (p.images == 0) return;
  check_pointers(kWhere, {{p.pixels, "pixels"}, {p.class_row, "class_row"}, {p.position_rows, "position_rows"}, {p.y, "y"}});
  const WeightImage& weight = p.weight->image;
  check(!weight.gate_up && weight.out == p.width, kWhere, "the weight's rows must equal the width", weight.out);
  check(weight.in == int64_t{3} * p.patch * p.patch, kWhere, "the weight's columns must be 3 * patch * patch", weight.in);
  const int64_t across = p.side / p.patch, rows = p.images * across * across;
  check_rows(kWhere, rows + p.images);
  const int64_t products = (rows * p.width + 3) / 4 * 4;  // what follows lies at a multiple of 16 bytes
  auto* workspace = device.rows.reserve<float>(products + (rows * patch_row_stride(p) + 1) / 2);
  const PatchEmbedWorkspace parts{.rows = workspace + products, .products = workspace};
  device.runtime.check(launch_patch_embed(p, weight, parts, device.runtime.stream()), kWhere);
}

void embed(Device& device, const EmbedParams& p) {
  constexpr const char* kWhere = "embed";
  check_rows(kWhere, p.rows);
  check_pointer(p.table, kWhere, "table");
  if (p.rows == 0) return;
  check_pointers(kWhere, {{p.source, "source"}, {p.y, "y"}});
  check(!p.table->image.gate_up, kWhere, "the table must be stacked", 1);
  device.runtime.check(launch_embed(p, p.table->image, device.runtime.stream()), kWhere);
}

void norm(Device& device, const NormParams& p) {
  constexpr const char* kWhere = "norm";
  check_rows(kWhere, p.rows);
  check(p.width > 0, kWhere, "width must be positive", p.width);
  if (p.rows == 0) return;
  check_pointers(kWhere, {{p.x, "x"}, {p.weight, "weight"}, {p.y, "y"}});
  device.runtime.check(launch_norm(device.type, p, device.runtime.stream()), kWhere);
}

void linear(Device& device, const LinearParams& p) {
  constexpr const char* kWhere = "linear";
  check_rows(kWhere, p.rows);
  check_pointer(p.weight, kWhere, "weight");
  const auto epilogue = static_cast<int32_t>(p.epilogue);
  check(epilogue >= 0 && epilogue <= static_cast<int32_t>(Epilogue::kSwiGlu), kWhere, "epilogue must be 0 to 3", epilogue);
  check((p.epilogue == Epilogue::kSwiGlu) == p.weight->image.gate_up, kWhere,
        "a weight imported as gate and up must meet the SwiGLU epilogue, and no other weight may", epilogue);
  check(p.phase == Phase::kPrefill || p.phase == Phase::kDecode, kWhere, "phase must be 0 or 1", static_cast<int32_t>(p.phase));
  if (p.rows == 0) return;
  check_pointers(kWhere, {{p.x, "x"}, {p.y, "y"}});
  device.runtime.check(launch_linear({.x = p.x,
                                      .x_stride = p.weight->image.in,
                                      .weight = &p.weight->image,
                                      .maybe_bias = p.maybe_bias,
                                      .maybe_residual = p.maybe_residual,
                                      .y = p.y,
                                      .y_is_float = false,
                                      .rows = p.rows,
                                      .phase = p.phase,
                                      .epilogue = p.epilogue,
                                      .workspace = device.linear_workspace},
                                     device.runtime.stream()),
                       kWhere);
}

void logits(Device& device, const LogitsParams& p) {
  constexpr const char* kWhere = "logits";
  check_rows(kWhere, p.rows);
  check_pointer(p.weight, kWhere, "weight");
  check(!p.weight->image.gate_up, kWhere, "the weight must be stacked", 1);
  if (p.rows == 0) return;
  check_pointers(kWhere, {{p.x, "x"}, {p.y, "y"}});
  device.runtime.check(launch_linear({.x = p.x,
                                      .x_stride = p.weight->image.in,
                                      .weight = &p.weight->image,
                                      .maybe_bias = nullptr,
                                      .maybe_residual = nullptr,
                                      .y = p.y,
                                      .y_is_float = true,
                                      .rows = p.rows,
                                      .phase = Phase::kDecode,
                                      .epilogue = Epilogue::kNone,
                                      .workspace = device.linear_workspace},
                                     device.runtime.stream()),
                       kWhere);
}

void rope_kv(Device& device, const RopeKvParams& p) {
  constexpr const char* kWhere = "rope_kv";
  check_rows(kWhere, p.rows);
  check_heads(kWhere, p.heads, p.layout.kv_heads, p.layout.head_dim, kDecodeHeadDimMost);
  if (p.rows == 0) return;
  check(p.blocks > 0, kWhere, "blocks must be positive", p.blocks);
  check_pointers(kWhere, {{p.qkv, "qkv"}, {p.cos, "cos"}, {p.sin, "sin"}, {p.positions, "positions"}, {p.sequence, "sequence"},
                          {p.slot, "slot"}, {p.pages, "pages"}, {p.pool, "pool"}});
  device.runtime.check(launch_rope_kv(device.type, p, device.runtime.stream()), kWhere);
}

void attention_prefill(Device& device, const AttentionPrefillParams& p) {
  constexpr const char* kWhere = "attention_prefill";
  check(p.sequences >= 0 && p.sequences <= kGridMost, kWhere, "sequences must be 0 to 65535", p.sequences);
  check_rows(kWhere, p.max_rows, kGridMost * kQueryTile);
  check_heads(kWhere, p.heads, p.kv_heads, p.head_dim, kPrefillHeadDimMost);
  if (p.sequences == 0 || p.max_rows == 0) return;
  check_pointers(kWhere, {{p.cu_rows, "cu_rows"}, {p.qkv, "qkv"}, {p.y, "y"}});
  if (p.maybe_column_sums) {
    const ColumnSums& sums = *p.maybe_column_sums;
    check(sums.groups > 0 && sums.groups <= kMaxVoterGroups, kWhere, "voter groups must be 1 to 5", sums.groups);
    check_pointers(kWhere, {{sums.votes, "votes"}, {sums.columns, "columns"}, {sums.offsets, "offsets"}, {sums.sums, "sums"}});
  }
  device.runtime.check(launch_attention_prefill(device.type, p, device.runtime.stream()), kWhere);
}

void attention_decode(Device& device, const AttentionDecodeParams& p) {
  constexpr const char* kWhere = "attention_decode";
  check_rows(kWhere, p.rows, kGridMost);
  check_heads(kWhere, p.heads, p.layout.kv_heads, p.layout.head_dim, kDecodeHeadDimMost);
  if (p.rows == 0) return;
  check(p.blocks > 0, kWhere, "blocks must be positive", p.blocks);
  check_pointers(kWhere, {{p.qkv, "qkv"}, {p.y, "y"}, {p.pool, "pool"}, {p.pages, "pages"}, {p.lengths, "lengths"}, {p.cos, "cos"},
                          {p.sin, "sin"}, {p.positions, "positions"}});
  const AttentionDecodeWorkspace workspace{device.attention_partials.reserve<float>(attention_decode_partials(p)),
                                           device.attention_arrivals.reserve<uint32_t>(p.rows * p.heads, true)};
  device.runtime.check(launch_attention_decode(device.type, p, workspace, device.runtime.stream()), kWhere);
}

void select(Device& device, const SelectParams& p) {
  constexpr const char* kWhere = "select";
  check_rows(kWhere, p.n);
  check(p.max_alive >= 0 && p.max_alive <= kSelectMost, kWhere,
        ("image rows must be 0 to " + std::to_string(kSelectMost)).c_str(), p.max_alive);
  if (p.n == 0) return;
  check_pointers(kWhere, {{p.sequences, "sequences"}, {p.image_index, "image_index"}, {p.source, "source"}});
  device.runtime.check(launch_select(p, device.runtime.stream()), kWhere);
}

void gather(Device& device, const GatherParams& p) {
  constexpr const char* kWhere = "gather";
  check_rows(kWhere, p.rows);
  check(p.n >= 0 && p.n <= kMaxGathered, kWhere, ("n must be 0 to " + std::to_string(kMaxGathered)).c_str(), p.n);
  if (p.rows == 0) return;
  check_pointer(p.index, kWhere, "index");
  for (int32_t a = 0; a < p.n; ++a) {
    check_pointers(kWhere, {{p.arrays[a].in, "in"}, {p.arrays[a].out, "out"}});
    check(p.arrays[a].row_bytes > 0, kWhere, "row_bytes must be positive", p.arrays[a].row_bytes);
  }
  device.runtime.check(launch_gather(p, device.runtime.stream()), kWhere);
}

void candidates(Device& device, const CandidatesParams& p) {
  constexpr const char* kWhere = "candidates";
  check_rows(kWhere, p.rows);
  check(p.vocabulary > 0, kWhere, "vocabulary must be positive", p.vocabulary);
  if (p.rows == 0) return;
  check_pointers(kWhere, {{p.logits, "logits"}, {p.adjust_start, "adjust_start"}, {p.masks, "masks"}, {p.ids, "ids"}, {p.best, "best"},
                          {p.log_sum_exp, "log_sum_exp"}});
  device.runtime.check(launch_candidates(p, device.runtime.stream()), kWhere);
}

}  // namespace himap
