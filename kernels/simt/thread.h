// What a running fiber sees of the machine: the seam between the wrappers (device_host.h) and the machine (machine.cc).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/device_types.h"

namespace himap::device {

/** Where a wrapper was called. */
struct Place {
  const char* file;
  int32_t line;

  static constexpr Place here(const char* file = __builtin_FILE(), int32_t line = __builtin_LINE()) { return {file, line}; }
};

}  // namespace himap::device

namespace himap::simt {

struct ThreadView {
  int32_t thread;
  int32_t block_threads;
  device::Dim3 block;
  device::Dim3 grid;
  unsigned char* shared;
  size_t shared_bytes;
};

/** The fiber that runs on this OS thread. */
extern __thread const ThreadView* current __attribute__((tls_model("initial-exec")));

/** Waits for every thread of the block that has not returned. */
void block_barrier(device::Place place);

/** Reads and writes the operands of all 32 lanes, of whatever type the operation knows. */
using WarpOperation = void(void* const* lanes);

/** Waits for the other 31 lanes; the last to come runs `operation` on everyone's `operands`. */
void warp_meet(const char* name, WarpOperation* operation, void* operands, device::Place place);

/** 16 bytes to shared memory: the first `bytes` from `from`, the rest zero. */
struct Copy {
  void* to;
  const void* from;
  int32_t bytes;
  void (*run)(const Copy& copy);  // compiled with the kernel, so that the sanitizers see it
};

/** Runs the copy now or when it is waited for, on the calling fiber. */
void copy_async(const Copy& copy, device::Place place);
void copy_async_commit();
void copy_async_wait(int32_t pending);

/** Ends the launch: the report says `text` and the place. Never returns to the kernel. */
[[noreturn]] void fail(const char* text, device::Place place);

}  // namespace himap::simt
