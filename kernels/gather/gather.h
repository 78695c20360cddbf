// out[r] = in[index[r]] for several arrays at once.
#pragma once

#include "kernels/types.h"

namespace himap {

constexpr int32_t kMaxGathered = 6;

struct GatherParams {
  const int32_t* index;  // (rows)
  int64_t rows;
  int32_t n;
  struct {
    const void* in;
    void* out;
    int64_t row_bytes;
  } arrays[kMaxGathered];
};

}  // namespace himap
