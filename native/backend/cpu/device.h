// One open CPU device: its threads, their scratch, its buffers and its last error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "native/backend/cpu/kernels.h"
#include "native/backend/cpu/thread_pool.h"
#include "native/backend/table.h"

namespace himap {

/** Memory of one thread for one operation; grows to the largest that was asked for. */
class Scratch {
 public:
  Scratch() = default;
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  /** At least `floats` floats, 64-byte aligned, contents undefined. */
  float* grow(int64_t floats);

 private:
  float* data_ = nullptr;
  int64_t floats_ = 0;
};

struct Device : DeviceBase {
  Device(const CpuKernels& table, bool prefetch, int32_t threads)
      : kernels(table), prefetches(prefetch), pool(threads), scratch(static_cast<size_t>(threads)) {}

  const CpuKernels& kernels;
  const bool prefetches;  // of the decode family, see choose.h
  ThreadPool pool;
  std::vector<Scratch> scratch;  // (threads)
  std::map<void*, size_t> buffers;
};

/**
 * Rows per chunk of work that streams through memory: a chunk of some hundred kilobytes is worth another thread's wake,
 * a smaller job is done sooner by the caller alone.
 */
constexpr int64_t rows_per_chunk(int64_t row_bytes) {
  constexpr int64_t kChunkBytes = 128 << 10;
  return row_bytes >= kChunkBytes ? 1 : kChunkBytes / (row_bytes > 0 ? row_bytes : 1);
}

/** What every attention needs of its heads. */
inline void check_heads(const char* where, int32_t heads, int32_t kv_heads, int32_t head_dim) {
  check(head_dim > 0 && head_dim % 8 == 0, where, "head_dim must be a positive multiple of 8", head_dim);
  check(kv_heads > 0, where, "kv_heads must be positive", kv_heads);
  check(heads > 0 && heads % kv_heads == 0, where, "heads must be a positive multiple of kv_heads", heads);
}

/**
 * Turns the q and k heads of one row of packed QKV (heads + 2 kv_heads, head_dim) in place by the angles of its position,
 * cos and sin (head_dim / 2), and puts its keys and values into their slot of a page.
 */
void turn_and_keep(const CpuKernels& kernels, float* row, int32_t heads, const float* cos, const float* sin, void* pool,
                   const KvLayout& layout, int32_t page, int32_t slot);

// The operations, one file each. They throw himap::Error; backend.cc turns that into codes.
#define HIMAP_OPERATION(name, Params) void name(Device& device, const Params& params);
HIMAP_OPERATIONS(HIMAP_OPERATION)
#undef HIMAP_OPERATION

/**
 * Bytes that this process could still have, and in all: the system's, or its control group's where that has fewer.
 * `root` stands before every path that is read, for tests.
 */
void system_memory(int64_t& free, int64_t& total, const std::string& root = "");

/** Processors that this process may keep busy, at least 1: those it may run on, or its control group's quota where that is less. */
int32_t system_processors(const std::string& root = "");

}  // namespace himap
