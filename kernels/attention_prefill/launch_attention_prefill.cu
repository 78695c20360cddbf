#include "kernels/attention_prefill/launch_attention_prefill.h"

#include "kernels/attention_prefill/attention_prefill.cuh"
#include "kernels/dispatch.h"

namespace himap {
namespace {

using device::DeviceError;

template <class Tile>
DeviceError launch_tile(const AttentionPrefillParams& p, device::Stream stream) {
  const device::AttentionPrefillKernelParams params{p, p.maybe_column_sums ? *p.maybe_column_sums : ColumnSums{}};
  const auto tiles = static_cast<uint32_t>(ceil_div(p.max_rows, kQueryTile));
  return device::launch(device::attention_prefill_kernel<Tile>,
                        {.name = "attention_prefill",
                         .grid = {static_cast<uint32_t>(p.heads), static_cast<uint32_t>(p.sequences), tiles},
                         .threads = Tile::kThreads,
                         .shared_bytes = sizeof(typename Tile::Shared),
                         .stream = stream},
                        params);
}

template <class T, int32_t kHeadDim>
DeviceError launch_head(const AttentionPrefillParams& p, device::Stream stream) {
  return p.maybe_column_sums ? launch_tile<device::PrefillTile<T, kHeadDim, true>>(p, stream)
                             : launch_tile<device::PrefillTile<T, kHeadDim, false>>(p, stream);
}

}  // namespace

DeviceError launch_attention_prefill(DType type, const AttentionPrefillParams& p, device::Stream stream) {
  if (p.sequences == 0 || p.max_rows == 0) return device::kNoError;
  return with_activation(type, [&](auto value) {
    using T = decltype(value);
    if (p.head_dim <= 32) return launch_head<T, 32>(p, stream);
    if (p.head_dim <= 64) return launch_head<T, 64>(p, stream);
    return launch_head<T, kPrefillHeadDimMost>(p, stream);
  });
}

}  // namespace himap
