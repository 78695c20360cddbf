#pragma once

#include "kernels/attention_prefill/attention_prefill.h"
#include "kernels/device.h"

namespace himap {

constexpr int32_t kPrefillHeadDimMost = 128;

/** `type` is that of the activations; head_dim is a multiple of 8 up to kPrefillHeadDimMost, qkv aligned to 16 bytes. */
device::DeviceError launch_attention_prefill(DType type, const AttentionPrefillParams& params, device::Stream stream);

}  // namespace himap
