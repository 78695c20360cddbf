// The host's SIMT machine: that kernels run as on a card, and that each kind of mistake is found and named.
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/simt/simt.h"
#include "test/native/check.h"

namespace himap::device {
namespace {

using simt::CopyTiming;
using simt::LaneOrder;

/** Runs `body` under every lane order and copy timing, on one OS thread and on two. */
template <class Body>
void in_every_order(Body body) {
  for (const LaneOrder order : {LaneOrder::kForward, LaneOrder::kReverse, LaneOrder::kRandom}) {
    for (const CopyTiming copies : {CopyTiming::kEarly, CopyTiming::kLate}) {
      for (const int32_t os_threads : {1, 2}) {
        simt::set_config({.order = order, .copies = copies, .seed = 7, .os_threads = os_threads});
        body();
      }
    }
  }
  simt::set_config({});
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

struct Ids {
  int32_t* to;  // (blocks, threads, 6)
};

HIMAP_KERNEL(64, 1) ids_kernel(HIMAP_PARAMS(Ids) p) {
  int32_t* to = p.to + 6 * (((block_z() * grid_y() + block_y()) * grid_x() + block_x()) * block_threads() + thread_id());
  to[0] = thread_id();
  to[1] = block_x();
  to[2] = block_y();
  to[3] = block_z();
  to[4] = lane_id();
  to[5] = warp_id();
}

TEST("every thread of every block runs once and knows its place") {
  in_every_order([] {
    std::vector<int32_t> ids(3 * 2 * 4 * 64 * 6, -1);
    CHECK(launch(ids_kernel, {"ids", {3, 2, 4}, 64, 0, nullptr}, Ids{ids.data()}) == kNoError);
    const int32_t* at = ids.data();
    for (int32_t z = 0; z < 4; ++z) {
      for (int32_t y = 0; y < 2; ++y) {
        for (int32_t x = 0; x < 3; ++x) {
          for (int32_t t = 0; t < 64; ++t, at += 6) {
            CHECK(at[0] == t && at[1] == x && at[2] == y && at[3] == z && at[4] == t % 32 && at[5] == t / 32);
          }
        }
      }
    }
  });
}

struct Sum {
  const float* from;  // (blocks, 256)
  float* to;          // (blocks)
  int32_t barriers;   // 1: as it must be; 0: one is missing
};
struct SumShared {
  float warp[8];
};

HIMAP_KERNEL(256, 1) sum_kernel(HIMAP_PARAMS(Sum) p) {
  auto& shared = shared_struct<SumShared>();
  const float sum = warp_sum(p.from[block_x() * 256 + thread_id()]);
  if (lane_id() == 0) shared.warp[warp_id()] = sum;
  if (p.barriers) sync_threads();
  if (thread_id() != 37) return;  // the others leave before the reader has read
  float total = 0;
  for (const float part : shared.warp) total += part;
  p.to[block_x()] = total;
}

TEST("a block reduces through shuffles, shared memory and a barrier") {
  std::vector<float> from(5 * 256);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<float>(i % 97) - 40;
  in_every_order([&] {
    std::vector<float> to(5, NAN);
    CHECK(launch(sum_kernel, {"sum", {5}, 256, sizeof(SumShared), nullptr}, Sum{from.data(), to.data(), 1}) == kNoError);
    for (int32_t b = 0; b < 5; ++b) {
      float expected = 0;
      for (int32_t i = 0; i < 256; ++i) expected += from[static_cast<size_t>(b * 256 + i)];
      CHECK_EQ(to[static_cast<size_t>(b)], expected);
    }
  });
}

TEST("a missing barrier shows: shared memory that nobody wrote is NaN") {
#ifdef __SANITIZE_THREAD__
  if (!std::getenv("HIMAP_PLANTED")) return himap::test::skip("ThreadSanitizer would report the race, as HIMAP_PLANTED=1 shows");
#endif
  std::vector<float> from(256, 1.0f), to(1, 0.0f);
  simt::set_config({.os_threads = 1});
  CHECK(launch(sum_kernel, {"sum", {1}, 256, sizeof(SumShared), nullptr}, Sum{from.data(), to.data(), 0}) == kNoError);
  CHECK(std::isnan(to[0]));
  simt::set_config({});
}

struct Copy {
  const float* from;  // (steps, 128)
  float* to;          // (steps, 128)
  int32_t steps;
  bool waits;  // false: planted bug
  bool holds;  // false: planted bug, the slot is filled again before all have read it
};
struct CopyShared {
  alignas(16) float slot[2][128];
};

HIMAP_KERNEL(32, 1) copy_kernel(HIMAP_PARAMS(Copy) p) {
  auto& shared = shared_struct<CopyShared>();
  const auto fetch = [&](int32_t step) {
    if (step < p.steps) copy_async_16(&shared.slot[step % 2][thread_id() * 4], p.from + step * 128 + thread_id() * 4, 16);
    copy_async_commit();
  };
  fetch(0);
  for (int32_t step = 0; step < p.steps; ++step) {
    if (!p.holds) fetch(step + 2);
    fetch(step + 1);
    if (p.waits) copy_async_wait<1>();
    sync_threads();
    for (int32_t i = thread_id(); i < 128; i += 32) p.to[step * 128 + i] = shared.slot[step % 2][127 - i];
    sync_threads();
  }
}

int32_t wrong_after_copy(bool waits, bool holds, CopyTiming copies) {
  simt::set_config({.copies = copies});
  std::vector<float> from(6 * 128), to(6 * 128, -1.0f);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<float>(i);
  const Copy params{from.data(), to.data(), 6, waits, holds};
  CHECK(launch(copy_kernel, {"copy", {1}, 32, sizeof(CopyShared), nullptr}, params) == kNoError);
  simt::set_config({});
  int32_t wrong = 0;
  for (size_t i = 0; i < to.size(); ++i) wrong += to[i] != from[i / 128 * 128 + 127 - i % 128];
  return wrong;
}

TEST("asynchronous copies: right with their waits, early or late") {
  CHECK_EQ(wrong_after_copy(true, true, CopyTiming::kEarly), 0);
  CHECK_EQ(wrong_after_copy(true, true, CopyTiming::kLate), 0);
}

TEST("a missing wait is found when copies come late, a slot filled too early when they come at once") {
  CHECK(wrong_after_copy(false, true, CopyTiming::kLate) > 0);
  CHECK(wrong_after_copy(true, false, CopyTiming::kEarly) > 0);
}

struct Fault {
  int32_t kind;
  uint32_t* sink;
};

HIMAP_KERNEL(64, 1) fault_kernel(HIMAP_PARAMS(Fault) p) {
  const int32_t t = thread_id();
  if (p.kind == 0) {
    if (t < 32) {
      sync_threads();
    } else {
      sync_threads();
    }
  }
  if (p.kind == 1 && t != 5) sync_warp();
  if (p.kind == 2) p.sink[t] = t % 2 == 0 ? shuffle(1u, 0) : ballot(true);
  if (p.kind == 3) copy_async_16(shared_array<char>() + 8, p.sink, 16);
  if (p.kind == 4) copy_async_16(shared_array<char>() + 64, p.sink, 16);
  if (p.kind == 5) shared_struct<char[65]>()[64] = 1;
  if (p.kind == 6) {
    uint32_t r[4];
    load_matrix_x4(r, p.sink);
  }
}

std::string failure_of(int32_t kind) {
  alignas(16) uint32_t sink[64];
  const DeviceError error = launch(fault_kernel, {"fault", {2}, 64, 64, nullptr}, Fault{kind, sink});
  return error == kNoError ? "no failure" : error_text(error);
}

TEST("threads at different barriers are named with their lines") {
  in_every_order([] {
    const std::string text = failure_of(0);
    CHECK(contains(text, "threads meet at different barriers in fault, block ("));
    CHECK(contains(text, "test_simt.cc:"));
    CHECK(contains(text, "in sync_threads at "));
  });
}

TEST("a lane that does not come to a warp operation is a deadlock report, not a hang") {
  in_every_order([] {
    const std::string text = failure_of(1);
    CHECK(contains(text, "deadlock in fault, block ("));
    CHECK(contains(text, "31 threads"));
    CHECK(contains(text, "sync_warp at "));
    CHECK(contains(text, "returned"));
  });
}

TEST("lanes that meet at different operations are named") {
  in_every_order([] { CHECK(contains(failure_of(2), "lanes of a warp meet at different operations")); });
}

TEST("addresses that a card would refuse are refused, with the line") {
  CHECK(contains(failure_of(3), "not aligned"));
  CHECK(contains(failure_of(4), "not in the block's shared memory"));
  CHECK(contains(failure_of(5), "larger than the launch's shared memory"));
  CHECK(contains(failure_of(6), "not in the block's shared memory"));
  CHECK(contains(failure_of(6), "test_simt.cc:"));
}

TEST("a failed launch leaves the machine usable") {
  failure_of(0);
  std::vector<float> from(256, 2.0f), to(1, 0.0f);
  CHECK(launch(sum_kernel, {"sum", {1}, 256, sizeof(SumShared), nullptr}, Sum{from.data(), to.data(), 1}) == kNoError);
  CHECK_EQ(to[0], 512.0f);
}

TEST("launches that no card would take are refused") {
  const auto text = [](Dim3 grid, int32_t threads) {
    const DeviceError error = launch(fault_kernel, {"fault", grid, threads, 64, nullptr}, Fault{-1, nullptr});
    return std::string(error_text(error));
  };
  CHECK(contains(text({0}, 32), "at least one block"));
  CHECK(contains(text({1}, 33), "multiple of 32"));
  CHECK(contains(text({1}, 2048), "at most 1024"));
  CHECK_EQ(text({1}, 1024), std::string("no error"));
}

struct Merge {
  const uint32_t* from;  // (blocks, 32)
  uint32_t* partial;     // (blocks)
  uint32_t* arrived;     // zero before and after
  uint32_t* to;
};
struct MergeShared {
  uint32_t last;
};

HIMAP_KERNEL(32, 1) merge_kernel(HIMAP_PARAMS(Merge) p) {
  auto& shared = shared_struct<MergeShared>();
  uint32_t sum = p.from[block_x() * 32 + thread_id()];
  for (int32_t distance = 16; distance > 0; distance >>= 1) sum += shuffle_xor(sum, distance);
  if (thread_id() == 3) p.partial[block_x()] = sum;
  sync_threads();
  if (thread_id() == 0) shared.last = atomic_add_ordered(p.arrived, 1) + 1 == static_cast<uint32_t>(grid_x());
  sync_threads();
  if (!shared.last || thread_id() != 9) return;
  uint32_t total = 0;
  for (int32_t b = 0; b < grid_x(); ++b) total += p.partial[b];
  *p.to = total;
  *p.arrived = 0;
}

TEST("the last block merges what all blocks wrote") {
  std::vector<uint32_t> from(32 * 40);
  uint32_t expected = 0;
  for (size_t i = 0; i < from.size(); ++i) expected += from[i] = static_cast<uint32_t>(i * 2654435761u);
  in_every_order([&] {
    std::vector<uint32_t> partial(40);
    uint32_t arrived = 0, to = 0;
    const Merge params{from.data(), partial.data(), &arrived, &to};
    CHECK(launch(merge_kernel, {"merge", {40}, 32, sizeof(MergeShared), nullptr}, params) == kNoError);
    CHECK_EQ(to, expected);
    CHECK_EQ(arrived, 0u);
  });
}

}  // namespace
}  // namespace himap::device

TEST_MAIN()
