// What of the code for this processor a device uses.
#pragma once

#include "native/backend/cpu/kernels.h"

namespace himap {

/**
 * The best set that this processor has, or the one that the environment variable HIMAP_CPU names: portable, avx2
 * (AVX2, FMA, F16C) or avx512 (F, BW, DQ, VL besides). Throws ERR_INVALID_ARG for an unknown name or a set that the
 * processor lacks.
 */
const CpuKernels& choose_kernels();

/**
 * Whether decode asks for weights ahead of their use. AMD's own prefetchers (measured on Zen 4) follow one row of a weight best and
 * lose eight side by side where all begin new pages at once, as rows of a power of two do; Intel's keep up with eight.
 */
bool wants_prefetch();

}  // namespace himap
