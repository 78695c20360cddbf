#include "kernels/embed/launch_embed.h"

#include "kernels/dispatch.h"
#include "kernels/embed/embed.cuh"

namespace himap {

device::DeviceError launch_embed(const EmbedParams& p, const WeightImage& table, device::Stream stream) {
  if (p.rows == 0) return device::kNoError;
  return with_activation(table.type, [&](auto value) {
    return device::launch(device::embed_kernel<decltype(value)>,
                          {.name = "embed",
                           .grid = {static_cast<uint32_t>(p.rows)},
                           .threads = device::kEmbedThreads,
                           .shared_bytes = 0,
                           .stream = stream},
                          device::EmbedKernelParams{p.source, table, p.maybe_features, p.y});
  });
}

}  // namespace himap
