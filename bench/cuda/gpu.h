// The card as the bench needs it: time by its own clock, its caches emptied. gpu_card.cu is CUDA's, gpu_host.cc
// the SIMT machine's, where every line runs and no time means anything.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "native/backend/ops.h"

namespace himap::bench {

struct GpuFacts {
  std::string name;
  int32_t multiprocessors;
  int64_t cache_bytes;  // L2
  std::string capability;
  std::string driver;   // the newest CUDA that it supports
  std::string runtime;  // the CUDA that this was built with
};

GpuFacts gpu_facts();

/** Measures on one device's own stream; the device outlives it. */
class Gpu {
 public:
  explicit Gpu(Device* device);
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  /** What cuBLASLt wants: a cudaStream_t. */
  void* stream() const;

  /** Reads `bytes` (a multiple of 16) from 16-byte aligned device memory, each once. Does not wait. */
  void read(const void* from, size_t bytes);

  /**
   * Microseconds of each of `repeats` runs of `operation`, after `warm` runs that do not count. Nothing waits between them,
   * so that launches are asked for while the card is still busy. `cold`: the second-level cache is filled with other data
   * before each run, by reading, so that nothing is left to write back.
   */
  std::vector<double> times(int32_t warm, int32_t repeats, bool cold, const std::function<void()>& operation);

 private:
  struct State;
  State* state_;
};

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace himap::bench
