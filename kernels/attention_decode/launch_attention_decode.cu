#include "kernels/attention_decode/launch_attention_decode.h"

#include "kernels/attention_decode/attention_decode.cuh"
#include "kernels/dispatch.h"

namespace himap {
namespace {

template <class Tile>
device::DeviceError launch_tile(const AttentionDecodeParams& p, const AttentionDecodeWorkspace& workspace, device::Stream stream) {
  const auto splits = static_cast<uint32_t>(ceil_div(int64_t{p.blocks} * kPageTokens, kDecodeSplit));
  return device::launch(device::attention_decode_kernel<Tile>,
                        {.name = "attention_decode",
                         .grid = {splits, static_cast<uint32_t>(p.heads), static_cast<uint32_t>(p.rows)},
                         .threads = Tile::kThreads,
                         .shared_bytes = sizeof(typename Tile::Shared),
                         .stream = stream},
                        device::AttentionDecodeKernelParams{p, workspace.partials, workspace.arrivals});
}

}  // namespace

device::DeviceError launch_attention_decode(DType type, const AttentionDecodeParams& p, const AttentionDecodeWorkspace& workspace,
                                            device::Stream stream) {
  if (p.rows == 0) return device::kNoError;
  return with_activation(type, [&](auto activation) {
    return with_storage(p.layout.type, [&](auto stored) {
      using T = decltype(activation);
      using P = decltype(stored);
      if (p.layout.head_dim <= 32) return launch_tile<device::DecodeTile<T, P, 4>>(p, workspace, stream);
      if (p.layout.head_dim <= 64) return launch_tile<device::DecodeTile<T, P, 8>>(p, workspace, stream);
      if (p.layout.head_dim <= 128) return launch_tile<device::DecodeTile<T, P, 16>>(p, workspace, stream);
      return launch_tile<device::DecodeTile<T, P, kDecodeHeadDimMost / device::kChunk>>(p, workspace, stream);
    });
  });
}

}  // namespace himap
