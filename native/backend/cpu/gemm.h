// The blocking of the prefill family: y = epilogue(x W^T + bias) + residual for many rows.
//
// A task is one block of rows times one block of columns, over the whole depth: it packs its rows of x and its panels of
// W as float32, multiplies register tiles into a block of sums, and finishes the block into y. Only the depth's blocks
// take part in the arithmetic, and they follow from the depth alone; rows and columns are padded to whole tiles with
// zeros, so that a row meets the same instructions wherever it falls.
#pragma once

#include <algorithm>
#include <cstdint>

#include "native/backend/cpu/device.h"
#include "native/backend/cpu/scratch.h"
#include "native/backend/cpu/weight.h"

namespace himap {

struct GemmParams {
  const Weight* weight;
  int64_t rows;
  Epilogue epilogue;
  const float* maybe_bias;      // (out)
  const float* maybe_residual;  // (rows, columns)
  float* y;                     // (rows, columns)
};

/** copy_x(row, first, depth, to) writes `depth` elements of a row of x from `first` on. */
template <class CopyX>
void gemm(Device& device, const GemmParams& p, const CopyX& copy_x) {
  const CpuKernels& kernels = device.kernels;
  const int64_t in = p.weight->in;
  const bool pair = p.weight->layout == WeightLayout::kGateUp;
  const WeightGroups groups(*p.weight, kernels.panel);

  const int64_t row_blocks = (p.rows + kBlockRows - 1) / kBlockRows;
  const int64_t block_rows =
      ((p.rows + row_blocks - 1) / row_blocks + kernels.tile_rows - 1) / kernels.tile_rows * kernels.tile_rows;
  const int64_t most_groups = kBlockPanels / kernels.panel / (pair ? 2 : 1);
  const int64_t wanted_blocks = std::max<int64_t>(1, 2 * device.pool.threads() / row_blocks);
  const int64_t block_groups = std::clamp<int64_t>((groups.count() + wanted_blocks - 1) / wanted_blocks, 1, most_groups);
  const int64_t column_blocks = (groups.count() + block_groups - 1) / block_groups;
  const int64_t depth_blocks = (in + kBlockK - 1) / kBlockK;
  const int64_t block_depth = (in + depth_blocks - 1) / depth_blocks;

  device.pool.parallel_for(row_blocks * column_blocks, 1, [&](int64_t begin, int64_t end, int32_t thread) {
    float* packed_x = device.scratch[thread].grow(kGemmFloats);
    float* packed_w = packed_x + kGemmPanels;
    float* sums = packed_x + kGemmSums;
    for (int64_t task = begin; task < end; ++task) {
      // Neighbouring tasks share columns, so that a weight's pages are touched once.
      const int64_t row0 = task % row_blocks * block_rows;
      const int64_t rows = std::min(block_rows, p.rows - row0);
      const int64_t group0 = task / row_blocks * block_groups;
      const int64_t n_groups = std::min(block_groups, groups.count() - group0);
      if (rows <= 0) continue;
      const int64_t padded_rows = (rows + kernels.tail_rows - 1) / kernels.tail_rows * kernels.tail_rows;
      const auto panels = static_cast<int32_t>(n_groups * (pair ? 2 : 1));
      const int64_t sums_stride = int64_t{panels} * kernels.panel;
      std::fill(packed_x + rows * kPackedStride, packed_x + padded_rows * kPackedStride, 0.0f);
      for (int64_t first = 0; first < in; first += block_depth) {
        const auto depth = static_cast<int32_t>(std::min(block_depth, in - first));
        for (int64_t r = 0; r < rows; ++r) copy_x(row0 + r, first, depth, packed_x + r * kPackedStride);
        float* panel = packed_w;
        const auto pack = [&](const WeightPart& part, const WeightRows& at) {
          kernels.pack_panel(row_address(part, at.row), part.type, in, at.rows, first, depth, panel);
          panel += int64_t{depth} * kernels.panel;
        };
        for (int64_t g = group0; g < group0 + n_groups; ++g) pack(*groups[g].part, groups[g]);
        for (int64_t g = group0; pair && g < group0 + n_groups; ++g) pack(*groups[g].maybe_up, groups[g]);
        kernels.gemm_block(packed_x, static_cast<int32_t>(padded_rows), packed_w, panels, depth, first > 0, sums, sums_stride);
      }
      for (int64_t g = 0; g < n_groups;) {
        // Whole panels lie side by side in the sums as in y: a row of them is finished at once.
        const WeightRows at = groups[group0 + g];
        const float* dots = sums + g * kernels.panel;
        int32_t width = 0;
        do width += groups[group0 + g++].rows;
        while (g < n_groups && width % kernels.panel == 0);
        const int64_t columns = p.weight->columns();
        const int64_t y0 = row0 * columns + at.column;
        kernels.finish({.dots = dots,
                        .maybe_up = pair ? dots + n_groups * kernels.panel : nullptr,
                        .dots_stride = sums_stride,
                        .rows = rows,
                        .columns = width,
                        .epilogue = p.epilogue,
                        .maybe_bias = p.maybe_bias ? p.maybe_bias + at.column : nullptr,
                        .maybe_up_bias = p.maybe_bias && pair ? p.maybe_bias + columns + at.column : nullptr,
                        .maybe_residual = p.maybe_residual ? p.maybe_residual + y0 : nullptr,
                        .y = p.y + y0,
                        .y_stride = columns});
      }
    }
  });
}

}  // namespace himap
