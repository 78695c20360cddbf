// One open CPU device: its threads, their scratch, its buffers and its last error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "native/backend/cpu/kernels.h"
#include "native/backend/cpu/thread_pool.h"
#include "native/backend/ops.h"
#include "native/core/status.h"

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

struct Device {
  explicit Device(const CpuKernels& table, int32_t threads)
      : kernels(table), pool(threads), scratch(static_cast<size_t>(threads)) {}

  const CpuKernels& kernels;
  ThreadPool pool;
  std::vector<Scratch> scratch;  // (threads)
  std::map<void*, size_t> buffers;
  char error[512] = "";
};

/** `holds`, or ERR_INVALID_ARG "[where] what; got came". */
inline void check(bool holds, const char* where, const char* what, int64_t came) {
  if (holds) return;
  fail(Code::ERR_INVALID_ARG, std::string("[") + where + "] " + what + "; got " + std::to_string(came));
}

/**
 * Rows per chunk of work that streams through memory: a chunk of some hundred kilobytes is worth another thread's wake,
 * a smaller job is done sooner by the caller alone.
 */
constexpr int64_t rows_per_chunk(int64_t row_bytes) {
  constexpr int64_t kChunkBytes = 128 << 10;
  return row_bytes >= kChunkBytes ? 1 : kChunkBytes / (row_bytes > 0 ? row_bytes : 1);
}

inline void check_pointer(const void* pointer, const char* where, const char* name) {
  if (pointer) return;
  fail(Code::ERR_INVALID_ARG, std::string("[") + where + "] " + name + " must point to memory; got null");
}

// The operations, one file each. They throw himap::Error; backend.cc turns that into codes.
void patch_embed(Device& device, const PatchEmbedParams& params);
void embed(Device& device, const EmbedParams& params);
void norm(Device& device, const NormParams& params);
void linear(Device& device, const LinearParams& params);
void logits(Device& device, const LogitsParams& params);
void rope_kv(Device& device, const RopeKvParams& params);
void attention_prefill(Device& device, const AttentionPrefillParams& params);
void attention_decode(Device& device, const AttentionDecodeParams& params);
void select(Device& device, const SelectParams& params);
void gather(Device& device, const GatherParams& params);
void candidates(Device& device, const CandidatesParams& params);

}  // namespace himap
