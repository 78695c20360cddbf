// Hopper's asynchronous machinery: mbarriers, transfers that complete on them, and the products of warpgroups.
#include "kernels/simt/async.h"

#include <cstring>

#include "kernels/float16.h"
#include "kernels/simt/machine.h"
#include "kernels/simt/twins.h"

namespace himap::simt {
namespace {

/** What the eight bytes of an mbarrier hold here. Memory that nobody initialised is all ones. */
struct Barrier {
  uint16_t left;   // arrivals until the phase ends
  uint16_t count;  // arrivals of a phase
  int32_t bytes_and_parity;

  uint32_t parity() const { return static_cast<uint32_t>(bytes_and_parity) & 1; }
  int32_t bytes() const { return bytes_and_parity >> 1; }
};
static_assert(sizeof(Barrier) == sizeof(device::Mbarrier));

Barrier load(const device::Mbarrier& barrier) {
  Barrier value;
  std::memcpy(&value, &barrier, sizeof value);
  return value;
}

void store(device::Mbarrier& barrier, const Barrier& value) { std::memcpy(&barrier, &value, sizeof value); }

Barrier load_ready(const device::Mbarrier& barrier, device::Place place) {
  check_shared(&barrier, sizeof barrier, place);
  const Barrier value = load(barrier);
  if (value.count == 0xffff) fail("an mbarrier must be initialised before it is used", place);
  return value;
}

/** Stands for the order that a phase makes: one address for each parity. */
void* sync_of(const device::Mbarrier& barrier, uint32_t parity) {
  return const_cast<char*>(reinterpret_cast<const char*>(&barrier)) + parity;
}

/** Rows of 128 bytes whose 16-byte chunks the 128-byte swizzle has permuted. */
unsigned char* swizzled(unsigned char* base, int64_t byte) { return base + (byte ^ ((byte >> 7 & 7) << 4)); }

void copy_box(const Transfer& t) {
  const device::TileSource& from = t.tile;
  for (int64_t r = 0; r < t.box_rows; ++r) {
    for (int64_t c = 0; c < device::kTileMapColumns; ++c) {
      uint16_t value = 0;
      const int64_t row = t.row + r, column = t.column + c;
      if (row >= 0 && row < from.rows && column >= 0 && column < from.columns) {
        value = static_cast<const uint16_t*>(from.base)[row * from.row_stride + column];
      }
      std::memcpy(swizzled(t.to, r * 128 + c * 2), &value, sizeof value);
    }
  }
}

float value_of(uint16_t bits, DType type) { return type == DType::kF16 ? to_float(F16{bits}) : to_float(Bf16{bits}); }

/** A row of 16 values of the matrix that a descriptor names. */
void read_row(float (&to)[16], unsigned char* shared, uint64_t descriptor, int32_t row, DType type) {
  const auto start = static_cast<int64_t>(descriptor & 0x3fff) * 16, group = static_cast<int64_t>(descriptor >> 32 & 0x3fff) * 16;
  for (int32_t k = 0; k < 16; ++k) {
    uint16_t bits;
    std::memcpy(&bits, swizzled(shared, start + row / 8 * group + row % 8 * 128 + k * 2), sizeof bits);
    to[k] = value_of(bits, type);
  }
}

}  // namespace

// --- Mbarriers and transfers -----------------------------------------------------------------------------------------

/** Ends the phase when everything has come. */
void Machine::settle(device::Mbarrier& barrier) {
  Barrier value = load(barrier);
  if (value.left != 0 || value.bytes() != 0) return;
  value.left = value.count;
  value.bytes_and_parity ^= 1;
  store(barrier, value);
  for (int32_t i = 0; i < threads_; ++i) {
    const Fiber& fiber = fibers_[static_cast<size_t>(i)];
    if (fiber.state != kAtMbarrier || fiber.mbarrier != &barrier || fiber.parity == value.parity()) continue;
    warps_[static_cast<size_t>(i / 32)].ready |= 1u << (i % 32);
  }
}

void Machine::mbarrier_arrive(device::Mbarrier& barrier, uint32_t bytes, device::Place place) {
  Barrier value = load_ready(barrier, place);
  if (value.left == 0) fail("an mbarrier's phase has more arrivals than it was initialised with", place);
  tsan_release(sync_of(barrier, value.parity()));
  value.bytes_and_parity += static_cast<int32_t>(bytes) * 2;
  --value.left;
  store(barrier, value);
  settle(barrier);
}

void Machine::mbarrier_wait(device::Mbarrier& barrier, uint32_t parity, device::Place place) {
  if (load_ready(barrier, place).parity() == parity) {
    running_->mbarrier = &barrier;
    running_->parity = parity;
    tsan_release(&mbarrier_sync_);
    block_here(kAtMbarrier, "mbarrier_wait", place);
  }
  tsan_acquire(sync_of(barrier, parity));
}

void Machine::transfer(const Transfer& transfer) {
  if (config_.copies == CopyTiming::kEarly) return complete(transfer);
  const TsanUnseen unseen;
  transfers_.push_back(transfer);
}

void Machine::complete(const Transfer& t) {
  {
    const TsanUnseen unseen;
    if (t.maybe_from) {
      std::memcpy(t.to, t.maybe_from, t.bytes);
    } else {
      copy_box(t);
    }
  }
  Barrier value = load(*t.barrier);
  if (value.bytes() < static_cast<int32_t>(t.bytes)) {
    failure = "an mbarrier's phase was told to expect " + std::to_string(value.bytes()) + " more bytes; a copy brings " +
              std::to_string(t.bytes) + where() + ", started at " + text_of(t.place);
    stop();
  }
  value.bytes_and_parity -= static_cast<int32_t>(t.bytes) * 2;
  store(*t.barrier, value);
  settle(*t.barrier);
}

/** Lets one transfer happen; false: none is on its way. */
bool Machine::complete_one() {
  if (transfers_.empty()) return false;
  size_t at = 0;
  if (config_.order == LaneOrder::kReverse) at = transfers_.size() - 1;
  if (config_.order == LaneOrder::kRandom) {
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;
    at = static_cast<size_t>(random_ >> 33) % transfers_.size();
  }
  Transfer one;
  {
    const TsanUnseen unseen;
    one = transfers_[at];
    transfers_.erase(transfers_.begin() + static_cast<std::ptrdiff_t>(at));
  }
  complete(one);
  return true;
}

// --- Warpgroups ------------------------------------------------------------------------------------------------------

// Lane t of a warpgroup holds, with l = t % 32, in d[n][i]:
//   row t / 32 * 16 + l / 4 + 8 * (i >> 1), column n * 8 + l % 4 * 2 + (i & 1)
void Machine::multiply(const Product& product) {
  const Wgmma& o = product.operands;
  const int32_t columns = o.n * 8;
  const TsanUnseen unseen;
  if (!product_room_) product_room_ = std::make_unique<ProductRoom>();
  auto& [a, b, d] = *product_room_;
  unsigned char* shared = shared_bytes();
  for (int32_t row = 0; row < 64; ++row) read_row(a[row], shared, o.a, row, o.type);
  for (int32_t column = 0; column < columns; ++column) {
    float values[16];
    read_row(values, shared, o.b, column, o.type);
    for (int32_t k = 0; k < 16; ++k) b[k][column] = values[k];
  }
  const auto each = [&, &sums_of = d](auto use) {
    for (int32_t t = 0; t < kWarpgroup; ++t) {
      const int32_t row = t / 32 * 16 + t % 32 / 4, column = t % 4 * 2;
      for (int32_t n = 0; n < o.n; ++n) {
        for (int32_t i = 0; i < 4; ++i) use(product.d[t][n][i], sums_of[row + 8 * (i >> 1)][n * 8 + column + (i & 1)]);
      }
    }
  };
  each([&](float sum, float& at) { at = sum; });
  for (int32_t row = 0; row < 64; ++row) {
    for (int32_t k = 0; k < 16; ++k) {
      const float left = a[row][k];
      for (int32_t column = 0; column < columns; ++column) d[row][column] += left * b[k][column];
    }
  }
  each([&](float& sum, float at) { sum = at; });
}

/** Waits for the warpgroup's other lanes; the last to come runs `operation` on the group. */
template <class Operation>
void Machine::meet_warpgroup(const char* name, const Wgmma* maybe_lane, device::Place place, Operation operation) {
  const int32_t thread = running_->view.thread, lane = thread % kWarpgroup;
  if (thread / kWarpgroup * kWarpgroup + kWarpgroup > threads_) fail("a warpgroup must have 128 threads", place);
  Warpgroup& group = warpgroups_[static_cast<size_t>(thread / kWarpgroup)];
  char* sync = &group.sync[group.generation & 1];
  tsan_release(sync);
  if (group.arrived == 0) {
    group.name = name;
    group.place = place;
  } else if (std::strcmp(group.name, name) != 0 || !same(group.place, place)) {
    failure = "threads of a warpgroup meet at different operations" + where() + "\n  some in " + group.name + " at " +
              text_of(group.place) + "\n  thread " + std::to_string(thread) + " in " + name + " at " + text_of(place);
    stop();
  }
  group.lanes[lane] = maybe_lane;
  if (++group.arrived == kWarpgroup) {
    operation(group);
    tsan_release(sync);  // what the operation did comes before what any lane does next
    group.arrived = 0;
    ++group.generation;
    for (int32_t w = thread / kWarpgroup * 4, end = w + 4; w < end; ++w) warps_[static_cast<size_t>(w)].ready = 0xffffffffu;
  } else {
    block_here(kInWarpgroup, name, place);
  }
  tsan_acquire(sync);
}

void Machine::sync_warpgroup(int32_t warpgroup, device::Place place) {
  if (running_->view.thread / kWarpgroup != warpgroup) fail("a warpgroup's barrier is for its own threads", place);
  meet_warpgroup("sync_warpgroup", nullptr, place, [](Warpgroup&) {});
}

void Machine::wgmma(const Wgmma& lane, device::Place place) {
  meet_warpgroup("wgmma_m64k16", &lane, place, [&](Warpgroup& group) {
    Product product{{}, lane};
    for (int32_t i = 0; i < kWarpgroup; ++i) {
      const Wgmma& own = *group.lanes[i];
      if (own.a != lane.a || own.b != lane.b) {
        fail("the lanes of a warpgroup must give the same matrices to a product", place);
      }
      product.d[i] = own.d;
    }
    const auto last_byte = [](uint64_t descriptor, int32_t rows) {
      return (descriptor & 0x3fff) * 16 + (descriptor >> 32 & 0x3fff) * 16 * static_cast<uint64_t>(rows / 8 - 1) + 7 * 128 + 32;
    };
    if (last_byte(lane.a, 64) > grid_->shared_bytes || last_byte(lane.b, lane.n * 8) > grid_->shared_bytes) {
      fail("a matrix of a product is not in the block's shared memory", place);
    }
    if (config_.products == ProductTiming::kEarly) multiply(product);
    const TsanUnseen unseen;
    group.open.push_back(product);
  });
}

void Machine::wgmma_commit(device::Place place) {
  meet_warpgroup("wgmma_commit", nullptr, place, [](Warpgroup& group) {
    const TsanUnseen unseen;
    group.groups.push_back(std::move(group.open));
    group.open.clear();
  });
}

void Machine::wgmma_wait(size_t pending, device::Place place) {
  meet_warpgroup("wgmma_wait", nullptr, place, [&](Warpgroup& group) {
    if (!group.open.empty()) fail("products must be committed before they are waited for", place);
    const TsanUnseen unseen;
    while (group.groups.size() > pending) {
      if (config_.products == ProductTiming::kLate) {
        for (const Product& product : group.groups.front()) multiply(product);
      }
      group.groups.erase(group.groups.begin());
    }
  });
}

/** A thread may not leave while a product writes to its registers. */
void Machine::check_finished() {
  const int32_t thread = running_->view.thread;
  if (static_cast<size_t>(thread / kWarpgroup) >= warpgroups_.size()) return;
  const Warpgroup& group = warpgroups_[static_cast<size_t>(thread / kWarpgroup)];
  if (group.open.empty() && group.groups.empty()) return;
  failure = "a thread ended before its warpgroup waited for its last product" + where();
  stop();
}

// --- What the wrappers call ------------------------------------------------------------------------------------------

void mbarrier_init(device::Mbarrier& barrier, int32_t arrivals, device::Place place) {
  check_shared(&barrier, sizeof barrier, place);
  if (arrivals < 1 || arrivals > 0x7fff) fail("an mbarrier must count 1 or more arrivals", place);
  const auto count = static_cast<uint16_t>(arrivals);
  store(barrier, {count, count, 0});
}

void mbarrier_arrive(device::Mbarrier& barrier, uint32_t bytes, device::Place place) {
  Machine::here().mbarrier_arrive(barrier, bytes, place);
}

void mbarrier_wait(device::Mbarrier& barrier, uint32_t parity, device::Place place) {
  Machine::here().mbarrier_wait(barrier, parity, place);
}

void transfer(const Transfer& t) {
  const auto base = reinterpret_cast<uintptr_t>(current->shared), at = reinterpret_cast<uintptr_t>(t.to);
  if (at < base || at + t.bytes > base + current->shared_bytes) {
    fail("a copy's destination is not in the block's shared memory", t.place);
  }
  load_ready(*t.barrier, t.place);
  if (t.maybe_from) {
    if (at % 16 != 0 || reinterpret_cast<uintptr_t>(t.maybe_from) % 16 != 0 || t.bytes % 16 != 0) {
      fail("copy_bulk must move multiples of 16 bytes between multiples of 16", t.place);
    }
    if (asan_forbids(t.maybe_from, t.bytes)) fail("copy_bulk reads what it may not", t.place);
  } else {
    if (at % 1024 != 0) fail("copy_tile must write to a multiple of 1024", t.place);
    if (t.column % 8 != 0) fail("copy_tile must begin at a multiple of 8 columns", t.place);
    for (int64_t row = t.row; row < t.row + t.box_rows && row < t.tile.rows; ++row) {
      const int64_t left = t.tile.columns - t.column, columns = left < device::kTileMapColumns ? left : device::kTileMapColumns;
      const uint16_t* from = static_cast<const uint16_t*>(t.tile.base) + row * t.tile.row_stride + t.column;
      if (columns > 0 && asan_forbids(from, static_cast<size_t>(columns) * 2)) fail("copy_tile reads what it may not", t.place);
    }
  }
  Machine::here().transfer(t);
}

void wgmma(const Wgmma& lane, device::Place place) { Machine::here().wgmma(lane, place); }
void wgmma_commit(device::Place place) { Machine::here().wgmma_commit(place); }
void wgmma_wait(int32_t pending, device::Place place) { Machine::here().wgmma_wait(static_cast<size_t>(pending), place); }
void sync_warpgroup(int32_t warpgroup, device::Place place) { Machine::here().sync_warpgroup(warpgroup, place); }

uint64_t swizzled_matrix(const void* rows, device::Place place) {
  const auto at = static_cast<uint64_t>(static_cast<const unsigned char*>(rows) - current->shared);
  if (at % 1024 != 0 || at >= current->shared_bytes) fail("a matrix of a product must begin at a multiple of 1024 in shared memory", place);
  return (at & 0x3ffff) >> 4 | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}

}  // namespace himap::simt
