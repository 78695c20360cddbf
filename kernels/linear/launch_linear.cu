#include "kernels/linear/launch_linear.h"

#include <cstdlib>
#include <string>

#include "kernels/dispatch.h"
#include "kernels/linear/linear.cuh"
#include "kernels/linear/sm90_linear_tiles.h"

namespace himap {
namespace {

using device::DeviceError;
using device::Stream;

template <class Tile>
device::LinearKernelParams kernel_params(const LinearLaunch& l) {
  const WeightImage& weight = *l.weight;
  return {.x = l.x,
          .image = static_cast<const unsigned char*>(weight.data),
          .out = linear_output_of(l),
          .partials = l.workspace.partials,
          .arrivals = l.workspace.arrivals,
          .x_stride = l.x_stride,
          .in = static_cast<int32_t>(weight.in),
          .in_tiles = static_cast<int32_t>(weight.in_tiles()),
          .out_tiles = static_cast<int32_t>(weight.out_tiles() * (kImageRows / Tile::kTileOut)),
          .row_tiles = static_cast<int32_t>(ceil_div(l.rows, Tile::kTileRows)),
          .splits = static_cast<int32_t>(linear_splits(l))};
}

template <class Tile>
DeviceError prefill(const LinearLaunch& l, Stream stream) {
  const auto params = kernel_params<Tile>(l);
  return device::launch(device::linear_prefill_kernel<Tile>,
                        {.name = "linear_prefill",
                         .grid = {static_cast<uint32_t>(params.out_tiles) * static_cast<uint32_t>(params.row_tiles)},
                         .threads = Tile::kThreads,
                         .shared_bytes = sizeof(typename Tile::Shared),
                         .stream = stream},
                        params);
}

template <class Tile>
DeviceError decode(const LinearLaunch& l, Stream stream) {
  const auto params = kernel_params<Tile>(l);
  return device::launch(device::linear_decode_kernel<Tile>,
                        {.name = "linear_decode",
                         .grid = {static_cast<uint32_t>(params.out_tiles), static_cast<uint32_t>(params.row_tiles),
                                  static_cast<uint32_t>(params.splits)},
                         .threads = Tile::kThreads,
                         .shared_bytes = sizeof(typename Tile::Shared),
                         .stream = stream},
                        params);
}

// The tile of a phase may follow the rows: it does not change the bits.
template <class T, bool kAligned>
DeviceError launch_typed(const LinearLaunch& l, Stream stream) {
  using Decode32 = device::LinearDecode32Tile<T, kAligned>;
  using Prefill = device::LinearPrefillTile<T, kAligned>;
  if constexpr (!kAligned) {
    return l.phase == Phase::kPrefill ? prefill<Prefill>(l, stream) : decode<Decode32>(l, stream);
  } else if (l.phase == Phase::kPrefill) {
    using Wide = device::LinearPrefillWideTile<T>;
    constexpr int64_t kMultiprocessors = 132;  // fewer wide tiles than these leave some of them without work
    const int64_t wide = l.weight->out_tiles() * ceil_div(l.rows, Wide::kTileRows);
    return wide >= kMultiprocessors ? prefill<Wide>(l, stream) : prefill<Prefill>(l, stream);
  } else {
    if (l.rows <= 8) return decode<device::LinearDecode8Tile<T>>(l, stream);
    if (l.rows <= 32) return decode<Decode32>(l, stream);
    return decode<device::LinearDecode128Tile<T>>(l, stream);
  }
}

const char* wanted_family() {
  static const char* const wanted = std::getenv("HIMAP_CUDA_LINEAR");
  return wanted ? wanted : "";
}

LinearFamily family_of_device() {
  const std::string wanted = wanted_family();
  if (wanted.empty()) return device::has_sm90() ? LinearFamily::kWgmma : LinearFamily::kMma;
  return wanted == "wgmma" ? LinearFamily::kWgmma : LinearFamily::kMma;
}

DeviceError launch_rows(const LinearLaunch& l, Stream stream) {
  const bool aligned = l.x_stride % 8 == 0 && reinterpret_cast<uintptr_t>(l.x) % 16 == 0;
  const LinearFamily family = l.family == LinearFamily::kOfDevice ? family_of_device() : l.family;
  if (aligned && family == LinearFamily::kWgmma) {
    return launch_sm90_linear(l, sm90_linear_tile(*l.weight, l.rows, linear_splits(l), device::multiprocessors()), stream);
  }
  if (l.weight->type == DType::kF16) return aligned ? launch_typed<F16, true>(l, stream) : launch_typed<F16, false>(l, stream);
  return aligned ? launch_typed<Bf16, true>(l, stream) : launch_typed<Bf16, false>(l, stream);
}

}  // namespace

DeviceError launch_sm90_linear(const LinearLaunch& l, int32_t tile, Stream stream) {
  return l.weight->type == DType::kF16 ? launch_sm90_linear_f16(l, tile, stream) : launch_sm90_linear_bf16(l, tile, stream);
}

const char* linear_family_fault() {
  const std::string wanted = wanted_family();
  if (!wanted.empty() && wanted != "mma" && wanted != "wgmma") return "HIMAP_CUDA_LINEAR must be mma or wgmma";
  if (wanted == "wgmma" && !device::has_sm90()) return "HIMAP_CUDA_LINEAR=wgmma must meet a card of compute capability 9.0";
  return nullptr;
}

DeviceError launch_linear(const LinearLaunch& l, Stream stream) {
  if (linear_splits(l) == 1) return l.rows == 0 ? device::kNoError : launch_rows(l, stream);
  // The partial sums of a split layer have room for so many rows.
  for (int64_t row = 0; row < l.rows; row += kDecodeSplitRows) {
    const int64_t columns = l.weight->columns();
    LinearLaunch part = l;
    part.rows = l.rows - row < kDecodeSplitRows ? l.rows - row : kDecodeSplitRows;
    part.x = static_cast<const unsigned char*>(l.x) + row * l.x_stride * 2;
    if (l.maybe_residual) part.maybe_residual = static_cast<const unsigned char*>(l.maybe_residual) + row * columns * 2;
    part.y = static_cast<unsigned char*>(l.y) + row * columns * (l.y_is_float ? 4 : 2);
    const DeviceError error = launch_rows(part, stream);
    if (error != device::kNoError) return error;
  }
  return device::kNoError;
}

DeviceError launch_repack(const RepackParams& params, Stream stream) {
  const int64_t chunks = params.rows * ceil_div(params.image.in, 8);
  return device::launch(device::repack_kernel,
                        {.name = "repack",
                         .grid = {static_cast<uint32_t>(ceil_div(chunks, device::kRepackThreads))},
                         .threads = device::kRepackThreads,
                         .shared_bytes = 0,
                         .stream = stream},
                        params);
}

}  // namespace himap
