// Plain types that kernels, launchers and the host's SIMT machine share.
#pragma once

#include <cstddef>
#include <cstdint>

namespace himap::device {

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
};

/** 16 bytes that move as one. */
struct alignas(16) Vec16 {
  uint32_t word[4];
};

}  // namespace himap::device
