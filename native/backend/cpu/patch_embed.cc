// The vision tower's first layer: a linear layer whose rows of x are patches of an image, gathered while it packs them.
#include <cstring>

#include "native/backend/cpu/gemm.h"

namespace himap {

void patch_embed(Device& device, const PatchEmbedParams& params) {
  constexpr const char* kWhere = "patch_embed";
  check(params.images >= 0, kWhere, "images must be at least 0", params.images);
  check(params.patch > 0, kWhere, "patch must be positive", params.patch);
  check(params.side > 0 && params.side % params.patch == 0, kWhere, "side must be a positive multiple of the patch", params.side);
  check(params.width > 0, kWhere, "width must be positive", params.width);
  check_pointer(params.weight, kWhere, "weight");
  if (params.images == 0) return;
  check_pointer(params.pixels, kWhere, "pixels");
  check_pointer(params.class_row, kWhere, "class_row");
  check_pointer(params.position_rows, kWhere, "position_rows");
  check_pointer(params.y, kWhere, "y");
  const int64_t side = params.side;
  const int64_t patch = params.patch;
  const int64_t width = params.width;
  check(params.weight->layout == WeightLayout::kStacked && params.weight->out == width, kWhere,
        "the weight's rows must equal the width", params.weight->out);
  check(params.weight->in == 3 * patch * patch, kWhere, "the weight's columns must be 3 * patch * patch", params.weight->in);

  const int64_t grid = side / patch;
  const int64_t patches = grid * grid;
  for (int64_t image = 0; image < params.images; ++image) {
    const float* pixels = params.pixels + image * 3 * side * side;
    float* y = static_cast<float*>(params.y) + image * (1 + patches) * width;
    for (int64_t i = 0; i < width; ++i) y[i] = params.class_row[i] + params.position_rows[i];
    const GemmParams p{.weight = params.weight,
                       .rows = patches,
                       .epilogue = Epilogue::kNone,
                       .maybe_residual = params.position_rows + width,
                       .y = y + width};
    gemm(device, p, [=](int64_t row, int64_t first, int32_t depth, float* to) {
      const float* corner = pixels + row / grid * patch * side + row % grid * patch;
      for (int64_t i = first, end = first + depth; i < end;) {
        const int64_t line = i / patch;  // of the patch's 3 * patch lines
        const int64_t column = i % patch;
        const int64_t n = std::min(patch - column, end - i);
        const float* from = corner + (line / patch * side + line % patch) * side + column;
        std::memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
        to += n;
        i += n;
      }
    });
  }
}

}  // namespace himap
