// Which instruction set a device uses.
#pragma once

#include "native/backend/cpu/kernels.h"

namespace himap {

/**
 * The best set that this processor has, or the one that the environment variable HIMAP_CPU names: portable, avx2
 * (AVX2, FMA, F16C) or avx512 (F, BW, DQ, VL besides). Throws ERR_INVALID_ARG for an unknown name or a set that the
 * processor lacks.
 */
const CpuKernels& choose_kernels();

}  // namespace himap
