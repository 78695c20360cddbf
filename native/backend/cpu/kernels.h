// The inner loops, compiled once per instruction set (isa/) and chosen when a device is opened.
//
// Everything here is plain data: the translation units behind the table share no inline function with the rest, so the
// linker can never put one set's code where another is expected. Lengths are in elements, matrices are row-major.
#pragma once

#include <cstdint>

#include "kernels/attention_prefill/attention_prefill.h"
#include "kernels/linear/linear.h"
#include "kernels/types.h"

namespace himap {

// Blocking of the prefill family. Only kBlockK takes part in the arithmetic.
constexpr int32_t kBlockRows = 384;   // rows of one packed block of x; a multiple of every set's tile_rows
constexpr int32_t kBlockPanels = 256; // columns of one packed block of a weight; a multiple of every set's panel
constexpr int32_t kBlockK = 256;      // most elements of one chain of additions
constexpr int32_t kPackedStride = kBlockK + 16;  // row stride of packed x; not a power of two: the rows share few sets

// Blocking of attention; none of it takes part in a row's arithmetic but kKeyTile.
constexpr int32_t kKeyTile = 64;
constexpr int32_t kStripRows = 16;  // query rows that share a pass over a key tile
constexpr int32_t kTaskRows = 4 * kQueryTile;  // most query rows that share a packed key tile

/** A finished block of dot products on its way to y. */
struct Finish {
  const float* dots;            // (rows, columns), rows dots_stride apart
  const float* maybe_up;        // kSwiGlu: the same for the second half of the weight
  int64_t dots_stride;
  int64_t rows;
  int32_t columns;
  Epilogue epilogue;
  const float* maybe_bias;      // (columns)
  const float* maybe_up_bias;   // (columns)
  const float* maybe_residual;  // (rows, columns), rows y_stride apart
  float* y;                     // (rows, columns), rows y_stride apart
  int64_t y_stride;
};

/**
 * Query tiles of one head of one sequence, whole but for the sequence's last. Pointers stand at the sequence's first row and
 * the head's columns.
 */
struct AttentionTask {
  const float* q;        // (length, head_dim), rows qkv_stride apart
  const float* k;
  const float* v;
  float* y;              // (length, head_dim), rows y_stride apart
  int64_t qkv_stride;
  int64_t y_stride;
  int32_t length;
  int32_t first;         // first query row; a tile begins there
  int32_t rows;          // query rows, at most kTaskRows
  int32_t head_dim;
  float scale;
  bool causal;
  const uint8_t* maybe_votes;  // (rows) from `first` on; null: no column sums
  const uint8_t* group_masks;  // (groups)
  int32_t groups;
  int32_t first_column;        // columns of the sums, within the sequence
  int32_t end_column;
  float* sums;                 // (tiles, groups, end_column - first_column), written whole
};

/** Up to kDecodeSplit keys of one head; page i holds tokens [i * page_tokens, (i + 1) * page_tokens). */
struct DecodeSplit {
  const float* q;             // (head_dim)
  const void* const* keys;    // (pages) one head's keys in a page, (page_tokens, head_dim)
  const void* const* values;  // (pages)
  int32_t page_tokens;
  int32_t tokens;
  int32_t head_dim;
  DType type;
  float scale;
  const void* maybe_next;     // memory is asked for each page before its turn, at last for the page here; null: for none
};

struct CpuKernels {
  const char* name;
  int32_t tile_rows;  // rows of x in one register tile
  int32_t tail_rows;  // rows of the smaller tiles after the last whole one
  int32_t panel;      // columns of one packed weight panel

  /** panel[k][c] = rows[c][first + k] as float32, zero for c >= valid. rows stand `stride` elements apart. */
  void (*pack_panel)(const void* rows, DType type, int64_t stride, int32_t valid, int64_t first, int32_t depth,
                     float* panel);

  /**
   * c = a b, or c += a b: `rows` rows of a (a multiple of tail_rows, kPackedStride apart), `panels` packed panels
   * (depth, panel), c rows c_stride apart.
   */
  void (*gemm_block)(const float* a, int32_t rows, const float* b, int32_t panels, int32_t depth, bool accumulate,
                     float* c, int64_t c_stride);

  /** y = epilogue(dots + bias) + residual, element by element. */
  void (*finish)(const Finish& params);

  /**
   * dots[r][n] = x[r] . w[n], each in its own lanes: the same for every `rows`. w's rows are contiguous.
   * `prefetch`: asks for weights ahead of their use, also behind w's end (no address is too wild for that), to the same bits.
   */
  void (*dot_rows)(const void* w, DType type, int64_t depth, int64_t columns, const float* x, int64_t x_stride,
                   int64_t rows, float* dots, int64_t dots_stride, bool prefetch);

  void (*load_row)(const void* from, DType type, int64_t elements, float* to);
  void (*store_row)(const float* from, int64_t elements, void* to, DType type);  // to nearest, ties to even
  void (*rms_norm)(const float* x, const float* weight, int64_t width, float eps, float* y);
  void (*layer_norm)(const float* x, const float* weight, const float* bias, int64_t width, float eps, float* y);

  /** (x[i], x[i + half]) turned by the angle of (cos[i], sin[i]), in place. */
  void (*rotate)(float* x, const float* cos, const float* sin, int32_t half);

  /** scratch: AttentionScratchLayout(head_dim).floats of scratch.h, 64-byte aligned. */
  void (*attention_task)(const AttentionTask& task, float* scratch);

  /** sum (head_dim) = sum exp(s - max) v; weights is scratch for `tokens` floats. */
  void (*decode_split)(const DecodeSplit& split, float* weights, float* max, float* total, float* sum);

  /** Joins a later split's state into (max, total, sum). */
  void (*merge_split)(float later_max, float later_total, const float* later_sum, int32_t head_dim, float* max,
                      float* total, float* sum);

  /** y = sum / total. */
  void (*divide_row)(const float* sum, float total, int32_t elements, float* y);

  /** Sum of exp(x - max), lane by lane in a fixed order. */
  float (*exp_sum)(const float* x, int64_t elements, float max);
};

extern const CpuKernels kKernelsPortable;
#if defined(__x86_64__)
extern const CpuKernels kKernelsAvx2;
extern const CpuKernels kKernelsAvx512;
#endif

}  // namespace himap
