// A SIMT machine on the host: CUDA threads as fibers, blocks on OS threads, shared memory that starts as NaN.
//
// Kernels do not include this file (they include kernels/device.h); tests and the CUDA backend's host build do, to
// choose how the machine behaves. One kernel launch runs to its end inside simt::run().
//
// What it finds, and how:
//   a missing barrier            another lane order, or ThreadSanitizer: a CUDA thread is a thread to it
//   a missing wait on a copy     CopyTiming::kLate: the bytes come when the kernel waits for them, not before
//   a buffer overwritten early   CopyTiming::kEarly: the bytes come at once; with ProductTiming::kLate also a slot that is
//                                given back before the product that reads it is over
//   sums read too early          ProductTiming::kLate: a wgmma happens when the kernel waits for it, not before
//   a wrong phase, wrong bytes   a deadlock report, or a failure that names the mbarrier's line
//   reading what nobody wrote    shared memory holds NaN (0xff bytes) when a block starts
//   an overrun                   AddressSanitizer: shared memory is a heap block of exactly the size of the launch
//   a barrier some threads miss, warp operations that do not meet, a deadlock: the launch fails with a report of lines
//
// What it cannot show: time, bank conflicts, registers, weak memory order, and the card's own rounding of mma and of
// the approximations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/device_types.h"

namespace himap::simt {

/** Which of the fibers that can run runs next. */
enum class LaneOrder : int32_t { kForward = 0, kReverse = 1, kRandom = 2 };

/**
 * When an asynchronous copy happens: at once, or when the thread waits for its group; one that completes on an mbarrier,
 * when no thread of the block can run without it, the oldest first, the newest first or any, as the lane order is.
 */
enum class CopyTiming : int32_t { kEarly = 0, kLate = 1 };

/** When an asynchronous product (wgmma) happens: at once, or when the warpgroup waits for its group. */
enum class ProductTiming : int32_t { kEarly = 0, kLate = 1 };

struct Config {
  LaneOrder order = LaneOrder::kForward;
  CopyTiming copies = CopyTiming::kEarly;
  ProductTiming products = ProductTiming::kEarly;
  uint64_t seed = 1;       // of LaneOrder::kRandom
  int32_t os_threads = 0;  // blocks at the same time; 0: one per processor
};

/**
 * How launches run from now on. Before the first call it comes from the environment: HIMAP_SIMT_ORDER=forward, reverse
 * or random; HIMAP_SIMT_COPIES and HIMAP_SIMT_PRODUCTS=early or late; HIMAP_SIMT_SEED; HIMAP_SIMT_THREADS.
 * Not to be changed during a launch.
 */
const Config& config();
void set_config(const Config& config);

/** What went wrong in this OS thread's last failed launch: what, which kernel and block, which lines; several lines. */
const std::string& last_failure();

/** Makes `text` the last failure. */
void refuse(const std::string& text);

/** A launch as the machine sees it. */
struct Grid {
  const char* name;
  device::Dim3 blocks;
  int32_t threads;  // per block: a multiple of 32, at most 1024
  size_t shared_bytes;
  void (*body)(const void* argument);  // what every thread runs
  const void* argument;
};

/** Runs every thread of a grid; false: see last_failure(). A failed launch may leave its outputs half written. */
bool run(const Grid& grid);

}  // namespace himap::simt
