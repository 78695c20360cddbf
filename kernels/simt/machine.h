// Runs one block at a time: its fibers, its barriers, its warps.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/simt/context.h"
#include "kernels/simt/simt.h"
#include "kernels/simt/thread.h"

namespace himap::simt {

struct Fiber;
struct Warp;

struct Unmap {
  size_t bytes = 0;
  void operator()(void* memory) const;
};

struct Free {
  void operator()(void* memory) const;
};

class Machine {
 public:
  Machine();
  ~Machine();

  /** Readies stacks and shared memory; called on the OS thread that then runs blocks. */
  void prepare(const Grid& grid, const Config& config);

  /** Runs a block to its end; false: `failure` says why, and the machine is of no further use. */
  bool run_block(device::Dim3 block, uint64_t seed);
  std::string failure;

  void barrier(device::Place place);
  void meet(const char* name, WarpOperation* operation, void* operands, device::Place place);
  void copy(const Copy& copy);
  void commit();
  void wait(int32_t pending);
  /** Ends the launch; `failure` is set. Nothing on the calling fiber's stack is destroyed. */
  [[noreturn]] void stop();

 private:
  static void enter();
  [[noreturn]] void leave();
  [[noreturn]] void deadlock();
  void block_here(int32_t state, const char* what, device::Place place);
  Fiber* pick();
  void switch_to(Fiber& fiber, bool for_good);
  void release_barrier();
  void grow_stacks(int32_t threads);
  std::string where() const;
  std::string waiting() const;

  const Grid* grid_ = nullptr;
  Config config_;
  device::Dim3 block_;
  Context scheduler_;
  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  std::unique_ptr<void, Unmap> stacks_;
  std::unique_ptr<void, Free> shared_;
  Fiber* running_ = nullptr;
  uint64_t random_ = 0;
  int32_t threads_ = 0;
  int32_t live_ = 0;
  int32_t at_barrier_ = 0;
  device::Place barrier_place_{};
  uint32_t barrier_generation_ = 0;
  // Addresses that stand for orders between fibers, one per generation in turn: a fiber that is late to leave one
  // barrier must not be ordered after what others did on their way to the next.
  char barrier_sync_[2];
  char block_sync_;
};

}  // namespace himap::simt
