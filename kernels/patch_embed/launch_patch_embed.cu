#include "kernels/patch_embed/launch_patch_embed.h"

#include "kernels/dispatch.h"
#include "kernels/linear/launch_linear.h"
#include "kernels/patch_embed/patch_embed.cuh"

namespace himap {

device::DeviceError launch_patch_embed(const PatchEmbedParams& p, const WeightImage& weight, const PatchEmbedWorkspace& workspace,
                                       device::Stream stream) {
  if (p.images == 0) return device::kNoError;
  const int32_t patches = p.side / p.patch * (p.side / p.patch);
  const auto stride = static_cast<int32_t>(patch_row_stride(p));
  const auto blocks = [](int64_t rows) { return device::Dim3{static_cast<uint32_t>(rows)}; };
  return with_activation(weight.type, [&](auto value) {
    using T = decltype(value);
    device::DeviceError error = device::launch(
        device::patch_rows_kernel<T>,
        {.name = "patch_rows",
         .grid = blocks(p.images * patches),
         .threads = device::kPatchThreads,
         .shared_bytes = 0,
         .stream = stream},
        device::PatchRowsParams{p.pixels, workspace.rows, p.side, p.patch, stride});
    if (error != device::kNoError) return error;
    error = launch_linear({.x = workspace.rows,
                           .x_stride = stride,
                           .weight = &weight,
                           .maybe_bias = nullptr,
                           .maybe_residual = nullptr,
                           .y = workspace.products,
                           .y_is_float = true,
                           .rows = p.images * patches,
                           .phase = Phase::kPrefill,
                           .epilogue = Epilogue::kNone,
                           .workspace = {}},
                          stream);
    if (error != device::kNoError) return error;
    return device::launch(
        device::patch_positions_kernel<T>,
        {.name = "patch_positions",
         .grid = blocks(p.images * (1 + patches)),
         .threads = device::kPatchThreads,
         .shared_bytes = 0,
         .stream = stream},
        device::PatchPositionsParams{workspace.products, p.class_row, p.position_rows, p.y, patches, p.width});
  });
}

}  // namespace himap
