#include "kernels/simt/machine.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels/simt/twins.h"

namespace himap::simt {

__thread const ThreadView* current;

namespace {

__thread Machine* machine;  // of this OS thread

#ifdef HIMAP_SIMT_ASAN
constexpr size_t kStackBytes = 256 << 10;  // frames are several times as large
#else
constexpr size_t kStackBytes = 64 << 10;
#endif

}  // namespace

std::string text_of(device::Place place) { return std::string(place.file) + ":" + std::to_string(place.line); }

bool same(device::Place a, device::Place b) { return a.line == b.line && std::strcmp(a.file, b.file) == 0; }

Machine& Machine::here() { return *machine; }

void Unmap::operator()(void* memory) const { munmap(memory, bytes); }
void Free::operator()(void* memory) const { std::free(memory); }

Machine::Machine() = default;

Machine::~Machine() {
  for (Fiber& fiber : fibers_) {
    asan_forget(fiber.context.stack_bottom, fiber.context.stack_bytes);
    tsan_destroy_fiber(fiber.context.tsan_fiber);
  }
}

void Machine::grow_stacks(int32_t threads) {
  if (static_cast<size_t>(threads) <= fibers_.size()) return;
  for (Fiber& fiber : fibers_) tsan_destroy_fiber(fiber.context.tsan_fiber);
  fibers_.clear();
  const auto guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));  // below each stack: an overflow faults
  const size_t bytes = (kStackBytes + guard) * static_cast<size_t>(threads);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  stacks_ = std::unique_ptr<void, Unmap>(memory, Unmap{bytes});
  fibers_.resize(static_cast<size_t>(threads));
  auto* at = static_cast<char*>(memory);
  for (Fiber& fiber : fibers_) {
    mprotect(at, guard, PROT_NONE);
    fiber.context.stack_bottom = at + guard;
    fiber.context.stack_bytes = kStackBytes;
    fiber.context.tsan_fiber = tsan_create_fiber();
    at += guard + kStackBytes;
  }
}

void Machine::prepare(const Grid& grid, const Config& config) {
  machine = this;
  grid_ = &grid;
  config_ = config;
  threads_ = grid.threads;
  grow_stacks(threads_);
  warps_.assign(static_cast<size_t>(threads_ / 32), Warp{});
  warpgroups_.assign(static_cast<size_t>(threads_ / kWarpgroup), Warpgroup{});
  scheduler_ = Context{};
  scheduler_.tsan_fiber = tsan_current_fiber();
  void* shared = nullptr;
  // Exactly the size that the launch asked for: AddressSanitizer guards what follows.
  if (posix_memalign(&shared, 1024, std::max<size_t>(grid.shared_bytes, 1)) != 0) throw std::bad_alloc();
  shared_.reset(shared);
}

bool Machine::run_block(device::Dim3 block, uint64_t seed) {
  block_ = block;
  random_ = seed;
  live_ = threads_;
  at_barrier_ = 0;
  // Not memset: ThreadSanitizer watches that, and this is not a kernel's write.
  auto* shared = static_cast<volatile unsigned char*>(shared_.get());
  for (size_t i = 0; i < grid_->shared_bytes; ++i) shared[i] = 0xff;
  for (Warp& warp : warps_) warp = Warp{.ready = 0xffffffffu, .generation = warp.generation};
  for (Warpgroup& group : warpgroups_) group.arrived = 0;
  for (int32_t i = 0; i < threads_; ++i) {
    Fiber& fiber = fibers_[static_cast<size_t>(i)];
    fiber.view = {.thread = i,
                  .block_threads = threads_,
                  .block = block,
                  .grid = grid_->blocks,
                  .shared = static_cast<unsigned char*>(shared_.get()),
                  .shared_bytes = grid_->shared_bytes};
    fiber.state = kReady;
    fiber.copies.clear();
    fiber.groups.clear();
    fiber.uncommitted = 0;
    start_context(fiber.context, enter);
  }
  tsan_release(&block_sync_);
  running_ = &fibers_[config_.order == LaneOrder::kReverse ? static_cast<size_t>(threads_ - 1) : 0];
  current = &running_->view;
  switch_context(scheduler_, running_->context, false);
  tsan_acquire(&block_sync_);
  current = nullptr;
  if (failure.empty()) return true;
  // Threads that will never go on: what they did ends here, where they last waited.
  tsan_acquire(&mbarrier_sync_);
  for (char& sync : barrier_sync_) tsan_acquire(&sync);
  for (Warp& warp : warps_) {
    for (char& sync : warp.sync) tsan_acquire(&sync);
  }
  for (Warpgroup& group : warpgroups_) {
    for (char& sync : group.sync) tsan_acquire(&sync);
  }
  return false;
}

void Machine::enter() {
  Machine& self = *machine;
  context_entered(self.scheduler_.stack_bottom ? nullptr : &self.scheduler_);
  tsan_acquire(&self.block_sync_);
  self.grid_->body(self.grid_->argument);
  self.commit();
  self.wait(0);
  self.check_finished();
  tsan_release(&self.block_sync_);
  self.leave();
}

void Machine::leave() {
  Fiber& self = *running_;
  self.state = kReturned;
  warps_[static_cast<size_t>(self.view.thread / 32)].ready &= ~(1u << (self.view.thread % 32));
  --live_;
  if (live_ > 0) {
    if (at_barrier_ == live_) release_barrier();
    switch_to(*next(), true);
  }
  if (failure.empty() && !transfers_.empty()) {
    failure = "asynchronous copies were still on their way when the block ended" + where() + ", started at " + text_of(transfers_[0].place);
    tsan_release(&block_sync_);
  }
  switch_context(self.context, scheduler_, true);
  std::abort();  // a context left for good is never resumed
}

void Machine::stop() {
  tsan_release(&block_sync_);
  switch_context(running_->context, scheduler_, true);
  std::abort();  // a context left for good is never resumed
}

void Machine::deadlock() {
  failure = "deadlock" + where() + waiting();
  stop();
}

std::string Machine::where() const {
  return std::string(" in ") + grid_->name + ", block (" + std::to_string(block_.x) + ", " + std::to_string(block_.y) + ", " +
         std::to_string(block_.z) + ")";
}

/** One line for each place where threads wait. */
std::string Machine::waiting() const {
  struct Group {
    const Fiber* first;
    int32_t threads;
  };
  std::vector<Group> groups;
  for (int32_t i = 0; i < threads_; ++i) {
    const Fiber& fiber = fibers_[static_cast<size_t>(i)];
    if (fiber.state == kReady) continue;
    const auto alike = [&](const Group& group) {
      return group.first->state == fiber.state && (fiber.state == kReturned || same(group.first->place, fiber.place));
    };
    const auto found = std::find_if(groups.begin(), groups.end(), alike);
    if (found != groups.end()) {
      ++found->threads;
    } else {
      groups.push_back({&fiber, 1});
    }
  }
  std::string text;
  for (const Group& group : groups) {
    text += "\n  " + std::to_string(group.threads) + (group.threads == 1 ? " thread" : " threads") + " (first: thread " +
            std::to_string(group.first->view.thread) + ")";
    if (group.first->state == kReturned) {
      text += " returned";
    } else {
      text += std::string(" in ") + group.first->what + " at " + text_of(group.first->place);
    }
  }
  return text;
}

/** The next fiber that can run; null: none can. */
Fiber* Machine::pick() {
  const int32_t warps = threads_ / 32;
  int32_t from = running_->view.thread;
  const bool reverse = config_.order == LaneOrder::kReverse;
  if (config_.order == LaneOrder::kRandom) {
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;
    from = static_cast<int32_t>((random_ >> 33) % static_cast<uint64_t>(threads_));
  }
  // Lanes of the first warp on this side of `from`, the other warps in turn, the rest of the first warp.
  for (int32_t step = 0; step <= warps; ++step) {
    const int32_t w = ((from / 32 + (reverse ? -step : step)) % warps + warps) % warps;
    uint32_t lanes = warps_[static_cast<size_t>(w)].ready;
    if (step == 0) lanes &= reverse ? (1u << (from % 32)) - 1 : ~((2u << (from % 32)) - 1);
    if (lanes == 0) continue;
    const int32_t lane = reverse ? 31 - __builtin_clz(lanes) : __builtin_ctz(lanes);
    return &fibers_[static_cast<size_t>(w * 32 + lane)];
  }
  return nullptr;
}

/** The same, after as many pending transfers as it takes. */
Fiber* Machine::next() {
  for (;;) {
    Fiber* fiber = pick();
    if (fiber) return fiber;
    if (!complete_one()) deadlock();
  }
}

void Machine::switch_to(Fiber& fiber, bool for_good) {
  Fiber& self = *running_;
  running_ = &fiber;
  current = &fiber.view;
  switch_context(self.context, fiber.context, for_good);
}

/** Lets others run until this fiber can again. */
void Machine::block_here(int32_t state, const char* what, device::Place place) {
  Fiber& self = *running_;
  self.state = state;
  self.what = what;
  self.place = place;
  warps_[static_cast<size_t>(self.view.thread / 32)].ready &= ~(1u << (self.view.thread % 32));
  Fiber& other = *next();
  if (&other != &self) switch_to(other, false);
  self.state = kReady;
}

void Machine::release_barrier() {
  for (Warp& warp : warps_) {
    warp.ready |= warp.at_barrier;
    warp.at_barrier = 0;
  }
  at_barrier_ = 0;
  ++barrier_generation_;
}

void Machine::barrier(device::Place place) {
  Fiber& self = *running_;
  char* sync = &barrier_sync_[barrier_generation_ & 1];
  tsan_release(sync);
  if (at_barrier_ == 0) barrier_place_ = place;
  if (!same(barrier_place_, place)) {
    failure = "threads meet at different barriers" + where() + waiting() + "\n  thread " + std::to_string(self.view.thread) +
              " in sync_threads at " + text_of(place);
    stop();
  }
  if (++at_barrier_ == live_) {
    release_barrier();
  } else {
    warps_[static_cast<size_t>(self.view.thread / 32)].at_barrier |= 1u << (self.view.thread % 32);
    block_here(kAtBarrier, "sync_threads", place);
  }
  tsan_acquire(sync);
}

void Machine::meet(const char* name, WarpOperation* operation, void* operands, device::Place place) {
  Fiber& self = *running_;
  Warp& warp = warps_[static_cast<size_t>(self.view.thread / 32)];
  const int32_t lane = self.view.thread % 32;
  char* sync = &warp.sync[warp.generation & 1];
  tsan_release(sync);
  if (warp.arrived == 0) {
    warp.operation = operation;
    warp.name = name;
    warp.place = place;
  } else if (warp.operation != operation || !same(warp.place, place)) {
    failure = "lanes of a warp meet at different operations" + where() + "\n  lane " +
              std::to_string(__builtin_ctz(warp.arrived)) + " of warp " + std::to_string(self.view.thread / 32) + " in " +
              warp.name + " at " + text_of(warp.place) + "\n  lane " + std::to_string(lane) + " in " + name + " at " +
              text_of(place);
    stop();
  }
  warp.arrived |= 1u << lane;
  warp.operands[lane] = operands;
  if (warp.arrived == 0xffffffffu) {
    operation(warp.operands);
    warp.arrived = 0;
    warp.ready = 0xffffffffu;
    ++warp.generation;
  } else {
    block_here(kInWarp, name, place);
  }
  tsan_acquire(sync);
}

void Machine::copy(const Copy& copy) {
  if (config_.copies == CopyTiming::kEarly) return copy.run(copy);
  running_->copies.push_back(copy);
  ++running_->uncommitted;
}

void Machine::commit() {
  running_->groups.push_back(running_->uncommitted);
  running_->uncommitted = 0;
}

void Machine::wait(int32_t pending) {
  Fiber& self = *running_;
  if (self.groups.size() <= static_cast<size_t>(pending)) return;
  const size_t groups = self.groups.size() - static_cast<size_t>(pending);
  size_t copies = 0;
  for (size_t i = 0; i < groups; ++i) copies += self.groups[i];
  for (size_t i = 0; i < copies; ++i) self.copies[i].run(self.copies[i]);
  self.copies.erase(self.copies.begin(), self.copies.begin() + static_cast<std::ptrdiff_t>(copies));
  self.groups.erase(self.groups.begin(), self.groups.begin() + static_cast<std::ptrdiff_t>(groups));
}

void block_barrier(device::Place place) { machine->barrier(place); }

void warp_meet(const char* name, WarpOperation* operation, void* operands, device::Place place) {
  machine->meet(name, operation, operands, place);
}

void copy_async(const Copy& copy, device::Place place) {
  check_shared(copy.to, 16, place);
  if (reinterpret_cast<uintptr_t>(copy.from) % 16 != 0) fail("copy_async_16 must read from a 16-byte boundary", place);
  if (copy.bytes < 0 || copy.bytes > 16) fail("copy_async_16 must read 0 to 16 bytes", place);
  machine->copy(copy);
}

void copy_async_commit() { machine->commit(); }
void copy_async_wait(int32_t pending) { machine->wait(pending); }

void fail(const char* text, device::Place place) {
  const ThreadView& at = *current;
  machine->failure = std::string(text) + ": thread " + std::to_string(at.thread) + " of block (" + std::to_string(at.block.x) + ", " +
                     std::to_string(at.block.y) + ", " + std::to_string(at.block.z) + ") at " + text_of(place);
  machine->stop();
}

}  // namespace himap::simt
