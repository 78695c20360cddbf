#pragma once

#include "kernels/attention_decode/attention_decode.h"
#include "kernels/device.h"

namespace himap {

constexpr int32_t kDecodeHeadDimMost = 256;

/** What splits leave for their last block. */
struct AttentionDecodeWorkspace {
  float* partials;     // attention_decode_partials() floats
  uint32_t* arrivals;  // (rows, heads), zero before the first launch; every launch leaves them zero
};

/** Floats of partial results that a launch may write. */
constexpr int64_t attention_decode_partials(const AttentionDecodeParams& p) {
  const int64_t splits = (int64_t{p.blocks} * kPageTokens + kDecodeSplit - 1) / kDecodeSplit;
  return p.rows * p.heads * splits * (2 + p.layout.head_dim);
}

/** `type` is that of the activations; head_dim is a multiple of 8 up to kDecodeHeadDimMost, qkv and pool aligned to 16 bytes. */
device::DeviceError launch_attention_decode(DType type, const AttentionDecodeParams& params, const AttentionDecodeWorkspace& workspace,
                                            device::Stream stream);

}  // namespace himap
