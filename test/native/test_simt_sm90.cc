// The host's SIMT machine, Hopper's part: that each mistake with mbarriers, transfers and products is found and named.
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/simt/simt.h"
#include "test/native/check.h"

namespace himap::device {
namespace {

using simt::CopyTiming;
using simt::LaneOrder;
using simt::ProductTiming;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

enum class Mistake : int32_t {
  kNone,
  kNoInit,
  kTooManyArrivals,
  kTooFewBytes,
  kTooManyBytes,
  kWrongParity,
  kNoWait,
  kUnalignedTile,
  kOutside,
};

struct One {
  TileMap map;
  const uint16_t* from;  // (8, 64)
  uint16_t* to;          // (512)
  Mistake mistake;
};
struct OneShared {
  alignas(1024) uint16_t rows[512];
  Mbarrier full;
};

/** One copy of a tile, with at most one mistake. */
HIMAP_KERNEL(64, 1) one_kernel(HIMAP_PARAMS(One) p) {
  auto& shared = shared_struct<OneShared>();
  const auto made = [&](Mistake mistake) { return p.mistake == mistake; };
  if (thread_id() == 0 && !made(Mistake::kNoInit)) mbarrier_init(shared.full, 1);
  sync_threads();
  if (thread_id() == 0) {
    const uint32_t bytes = made(Mistake::kTooFewBytes) ? 1008 : made(Mistake::kTooManyBytes) ? 1040 : 1024;
    mbarrier_arrive_expect(shared.full, bytes);
    unsigned char* to = reinterpret_cast<unsigned char*>(shared.rows);
    if (made(Mistake::kUnalignedTile)) to += 512;
    if (made(Mistake::kOutside)) to += sizeof(OneShared);
    copy_tile(to, p.map, 0, 0, shared.full);
    if (made(Mistake::kTooManyArrivals)) {
      mbarrier_arrive(shared.full);
      mbarrier_arrive(shared.full);
    }
  }
  if (!made(Mistake::kNoWait)) mbarrier_wait(shared.full, made(Mistake::kWrongParity) ? 1 : 0);
  for (int32_t i = thread_id(); i < 512; i += 64) p.to[i] = shared.rows[i];
}

std::vector<uint16_t> from(512, 7), to(512);

std::string report_of(Mistake mistake, CopyTiming copies) {
  simt::set_config({.copies = copies, .os_threads = 1});
  std::fill(to.begin(), to.end(), 0);
  One params{{}, from.data(), to.data(), mistake};
  const TileSource source{.base = from.data(), .is_f16 = false, .columns = 64, .rows = 8, .row_stride = 64};
  DeviceError error = make_tile_map(params.map, source, 8);
  if (error == kNoError) error = launch(one_kernel, {"one", {1}, 64, sizeof(OneShared), nullptr}, params);
  simt::set_config({});
  return error_text(error);
}

TEST("a copy that completes on an mbarrier arrives, early or late") {
  for (const CopyTiming copies : {CopyTiming::kEarly, CopyTiming::kLate}) {
    CHECK_EQ(report_of(Mistake::kNone, copies), std::string("no error"));
    CHECK(to == from);
  }
}

TEST("mistakes with mbarriers and copies are named") {
  const std::string line = "test_simt_sm90.cc:";
  for (const CopyTiming copies : {CopyTiming::kEarly, CopyTiming::kLate}) {
    const auto named = [&](Mistake mistake, const std::string& words) {
      const std::string text = report_of(mistake, copies);
      if (!contains(text, words)) himap::test::report(__FILE__, __LINE__, text);
      CHECK(contains(text, line));
    };
    named(Mistake::kNoInit, "an mbarrier must be initialised before it is used");
    // Where the bytes have come the phase is over, and the arrivals begin the next one.
    if (copies == CopyTiming::kLate) named(Mistake::kTooManyArrivals, "more arrivals than it was initialised with");
    named(Mistake::kTooFewBytes, "was told to expect 1008 more bytes; a copy brings 1024");
    named(Mistake::kTooManyBytes, "deadlock in one, block (0, 0, 0)\n  64 threads (first: thread 0) in mbarrier_wait at ");
    named(Mistake::kUnalignedTile, "copy_tile must write to a multiple of 1024");
    named(Mistake::kOutside, "a copy's destination is not in the block's shared memory");
  }
  CHECK(contains(report_of(Mistake::kNoWait, CopyTiming::kLate), "still on their way when the block ended"));
  // The parity before the first counts as over: whoever waits for it reads what has not come.
  report_of(Mistake::kWrongParity, CopyTiming::kLate);
  CHECK(to != from);
}

TEST("tile maps that no card would take are refused") {
  TileMap map;
  const TileSource good{.base = from.data(), .is_f16 = false, .columns = 64, .rows = 8, .row_stride = 64};
  CHECK(make_tile_map(map, good, 8) == kNoError);
  TileSource bad = good;
  bad.base = from.data() + 1;
  CHECK(contains(error_text(make_tile_map(map, bad, 8)), "multiple of 16"));
  bad = good;
  bad.row_stride = 63;
  CHECK(contains(error_text(make_tile_map(map, bad, 8)), "row stride"));
  CHECK(contains(error_text(make_tile_map(map, good, 257)), "1 to 256 rows"));
}

struct Products {
  float* to;  // (128, 4)
  int32_t kind;
};
struct ProductsShared {
  alignas(1024) uint16_t a[64 * 64];
  alignas(1024) uint16_t b[2][8 * 64];
};

/** b's first matrix is ones, its second twos; a is ones: sums of 16. */
HIMAP_KERNEL(128, 1) products_kernel(HIMAP_PARAMS(Products) p) {
  auto& shared = shared_struct<ProductsShared>();
  for (int32_t i = thread_id(); i < 64 * 64; i += 128) shared.a[i] = 0x3f80;
  for (int32_t i = thread_id(); i < 8 * 64; i += 128) {
    shared.b[0][i] = 0x3f80;
    shared.b[1][i] = 0x4000;
  }
  sync_threads();
  float d[1][4] = {};
  const uint64_t a = swizzled_matrix(shared.a), b = swizzled_matrix(shared.b[p.kind == 3 ? thread_id() / 64 : 0]);
  wgmma_begin(d);
  if (p.kind == 4 && thread_id() > 100) sync_warpgroup<0>();
  wgmma_m64k16<Bf16>(d, p.kind == 5 ? a + 1024 : a, b);
  wgmma_commit();
  if (p.kind == 1) {  // what the product reads changes before it is over
    sync_threads();
    for (int32_t i = thread_id(); i < 8 * 64; i += 128) shared.b[0][i] = 0x4000;
    sync_threads();
  }
  if (p.kind != 2) wgmma_wait<0>(d);
  for (int32_t i = 0; i < 4; ++i) p.to[thread_id() * 4 + i] = d[0][i];
}

std::string products_of(int32_t kind, ProductTiming products, std::vector<float>& sums) {
  simt::set_config({.products = products, .os_threads = 1});
  sums.assign(512, -1.0f);
  const LaunchShape shape{"products", {1}, 128, sizeof(ProductsShared), nullptr};
  const DeviceError error = launch(products_kernel, shape, Products{sums.data(), kind});
  simt::set_config({});
  return error_text(error);
}

TEST("mistakes with products show, or are named") {
  std::vector<float> sums;
  for (const ProductTiming products : {ProductTiming::kEarly, ProductTiming::kLate}) {
    CHECK_EQ(products_of(0, products, sums), std::string("no error"));
    CHECK(sums == std::vector<float>(512, 16.0f));
    CHECK(contains(products_of(2, products, sums), "ended before its warpgroup waited for its last product"));
    CHECK(contains(products_of(3, products, sums), "must give the same matrices"));
    CHECK(contains(products_of(4, products, sums), "meet at different operations"));
    CHECK(contains(products_of(5, products, sums), "not in the block's shared memory"));
  }
  products_of(1, ProductTiming::kLate, sums);
  CHECK(sums == std::vector<float>(512, 32.0f));
}

}  // namespace
}  // namespace himap::device

TEST_MAIN()
