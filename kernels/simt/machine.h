// Runs one block at a time: its fibers, its barriers, its warps.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/simt/async.h"
#include "kernels/simt/context.h"
#include "kernels/simt/simt.h"
#include "kernels/simt/thread.h"

namespace himap::simt {

enum State : int32_t { kReady, kAtBarrier, kInWarp, kInWarpgroup, kAtMbarrier, kReturned };

struct Fiber {
  ThreadView view{};
  Context context;
  int32_t state = kReady;
  const char* what = "";  // the wrapper it waits in
  device::Place place{};
  std::vector<Copy> copies;    // pending, oldest first
  std::vector<size_t> groups;  // copies in each committed group, oldest first
  size_t uncommitted = 0;
  const device::Mbarrier* mbarrier = nullptr;  // that it waits for
  uint32_t parity = 0;
};

struct Warp {
  uint32_t ready = 0;  // lanes that can run
  uint32_t at_barrier = 0;
  uint32_t arrived = 0;
  uint32_t generation = 0;
  void* operands[32] = {};
  WarpOperation* operation = nullptr;
  const char* name = "";
  device::Place place{};
  char sync[2] = {};
};

constexpr int32_t kWarpgroup = 128;

/** A product on its way: what its 128 lanes gave. */
struct Product {
  float (*d[kWarpgroup])[4];
  Wgmma operands;  // alike in all lanes but for d
};

/** Room for one product: too large for a fiber's stack, and for a library's thread-local storage. */
struct ProductRoom {
  float a[64][16];
  float b[16][256];
  float d[64][256];
};

struct Warpgroup {
  int32_t arrived = 0;
  uint32_t generation = 0;
  const Wgmma* lanes[kWarpgroup] = {};  // null: not a product
  const char* name = "";
  device::Place place{};
  char sync[2] = {};
  std::vector<Product> open;                 // not committed
  std::vector<std::vector<Product>> groups;  // committed, oldest first
};

struct Unmap {
  size_t bytes = 0;
  void operator()(void* memory) const;
};

struct Free {
  void operator()(void* memory) const;
};

std::string text_of(device::Place place);
bool same(device::Place a, device::Place b);

class Machine {
 public:
  /** That runs on this OS thread. */
  static Machine& here();

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
  void mbarrier_arrive(device::Mbarrier& barrier, uint32_t bytes, device::Place place);
  void mbarrier_wait(device::Mbarrier& barrier, uint32_t parity, device::Place place);
  void transfer(const Transfer& transfer);
  void wgmma(const Wgmma& lane, device::Place place);
  void wgmma_commit(device::Place place);
  void wgmma_wait(size_t pending, device::Place place);
  void sync_warpgroup(int32_t warpgroup, device::Place place);
  /** Ends the launch; `failure` is set. Nothing on the calling fiber's stack is destroyed. */
  [[noreturn]] void stop();

 private:
  static void enter();
  [[noreturn]] void leave();
  [[noreturn]] void deadlock();
  void block_here(int32_t state, const char* what, device::Place place);
  Fiber* pick();
  Fiber* next();
  void complete(const Transfer& transfer);
  bool complete_one();
  void settle(device::Mbarrier& barrier);
  template <class Operation>
  void meet_warpgroup(const char* name, const Wgmma* maybe_lane, device::Place place, Operation operation);
  void check_finished();
  void multiply(const Product& product);
  unsigned char* shared_bytes() const { return static_cast<unsigned char*>(shared_.get()); }
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
  std::vector<Warpgroup> warpgroups_;
  std::vector<Transfer> transfers_;  // on their way, oldest first
  std::unique_ptr<ProductRoom> product_room_;
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
  char mbarrier_sync_;  // of those that wait, for a block that is given up
  char block_sync_;
};

}  // namespace himap::simt
