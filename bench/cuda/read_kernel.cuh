// Reads memory as fast as a card can: each thread four times 16 bytes at once, a grid that walks on. What the bandwidth of a
// read is measured with, and what empties the second-level cache.
#pragma once

#include "kernels/device.h"

namespace himap {

struct ReadParams {
  const unsigned char* from;  // (bytes), 16-byte aligned
  int64_t bytes;              // a multiple of 16
  uint32_t* sink;             // one word, written by chance only: what is read must count as used
};

namespace device {

constexpr int32_t kReadThreads = 256;
constexpr int32_t kReadAtOnce = 4;

HIMAP_KERNEL(kReadThreads, 8) read_kernel(HIMAP_PARAMS(ReadParams) p) {
  const int64_t chunks = p.bytes / 16, step = int64_t{grid_x()} * kReadThreads;
  uint32_t sum = 0;
  int64_t at = int64_t{block_x()} * kReadThreads + thread_id();
  for (; at + (kReadAtOnce - 1) * step < chunks; at += kReadAtOnce * step) {
    Vec16 part[kReadAtOnce];
    HIMAP_UNROLL
    for (int32_t i = 0; i < kReadAtOnce; ++i) part[i] = load_stream_16(p.from + (at + i * step) * 16);
    HIMAP_UNROLL
    for (int32_t i = 0; i < kReadAtOnce; ++i) sum ^= part[i].word[0] ^ part[i].word[1] ^ part[i].word[2] ^ part[i].word[3];
  }
  for (; at < chunks; at += step) {
    const Vec16 part = load_stream_16(p.from + at * 16);
    sum ^= part.word[0] ^ part.word[1] ^ part.word[2] ^ part.word[3];
  }
  if (sum == 0x9e3779b9u) *p.sink = sum;
}

inline DeviceError launch_read(const ReadParams& p, int32_t blocks, Stream stream) {
  return launch(read_kernel, {.name = "read", .grid = {static_cast<uint32_t>(blocks)}, .threads = kReadThreads, .shared_bytes = 0,
                              .stream = stream}, p);
}

}  // namespace device
}  // namespace himap
