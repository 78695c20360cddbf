// Conformance of the wrappers that need Hopper, as test_wrappers.cc does it for the others: each against a definition
// written here, on random bits. Skipped on cards of another kind.
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/device.h"
#include "test/native/check.h"
#include "test/native/kernel_fixture.h"

namespace himap::device {
namespace {

using test::Input;
using test::launched;
using test::Output;
using test::Random;

bool skipped() {
  if (has_sm90()) return false;
  test::skip("the device is not a Hopper");
  return true;
}

// --- Mbarriers and bulk copies -----------------------------------------------------------------------------------

constexpr int32_t kRingSlots = 3;
constexpr int32_t kRingBytes = 2048;  // of a slot

struct Ring {
  const unsigned char* from;  // (steps, kRingBytes)
  unsigned char* to;          // (steps, kRingBytes)
  int32_t steps;
};
struct RingShared {
  alignas(16) unsigned char slot[kRingSlots][kRingBytes];
  Mbarrier full[kRingSlots];
  Mbarrier empty[kRingSlots];
};

/** One warp fetches in two copies a step, 128 threads take the bytes out; several rounds of the ring. */
HIMAP_KERNEL(160, 1) sm90_ring_kernel(HIMAP_PARAMS(Ring) p) {
  if constexpr (kSm90Compiled) {
    auto& shared = shared_struct<RingShared>();
    if (thread_id() == 0) {
      for (int32_t i = 0; i < kRingSlots; ++i) {
        mbarrier_init(shared.full[i], 1);
        mbarrier_init(shared.empty[i], 128);
      }
      mbarrier_init_fence();
    }
    sync_threads();
    if (thread_id() >= 128) {
      if (thread_id() > 128) return;
      for (int32_t step = 0; step < p.steps; ++step) {
        const int32_t slot = step % kRingSlots, round = step / kRingSlots;
        mbarrier_wait(shared.empty[slot], (round + 1) % 2);
        mbarrier_arrive_expect(shared.full[slot], kRingBytes);
        const unsigned char* from = p.from + step * kRingBytes;
        copy_bulk(shared.slot[slot], from, 1536, shared.full[slot]);
        copy_bulk(shared.slot[slot] + 1536, from + 1536, 512, shared.full[slot]);
      }
      return;
    }
    for (int32_t step = 0; step < p.steps; ++step) {
      const int32_t slot = step % kRingSlots, round = step / kRingSlots;
      mbarrier_wait(shared.full[slot], round % 2);
      for (int32_t i = thread_id(); i < kRingBytes; i += 128) p.to[step * kRingBytes + i] = shared.slot[slot][kRingBytes - 1 - i];
      mbarrier_arrive(shared.empty[slot]);
    }
  } else {
    trap();
  }
}

TEST("bulk copies through a ring of mbarriers") {
  if (skipped()) return;
  const int32_t steps = 11;
  Random random(1);
  std::vector<unsigned char> from(static_cast<size_t>(steps) * kRingBytes);
  for (unsigned char& byte : from) byte = static_cast<unsigned char>(random.bits());
  const Input<unsigned char> input(from);
  Output<unsigned char> to(from.size());
  launched(launch(sm90_ring_kernel, {"ring", {1}, 160, sizeof(RingShared), nullptr}, Ring{input.get(), to.get(), steps}));
  const std::vector<unsigned char> got = to.read();
  int64_t wrong = 0;
  for (size_t i = 0; i < got.size(); ++i) wrong += got[i] != from[i / kRingBytes * kRingBytes + kRingBytes - 1 - i % kRingBytes];
  CHECK_EQ(wrong, int64_t{0});
}

// --- Tiles -------------------------------------------------------------------------------------------------------

constexpr int32_t kBoxRows = 24;

struct Box {
  TileMap map;
  uint16_t* to;  // (kBoxRows, 64) as it lies in shared memory
  int32_t column;
  int32_t row;
};
struct BoxShared {
  alignas(1024) uint16_t rows[kBoxRows * 64];
  Mbarrier full;
};

HIMAP_KERNEL(32, 1) sm90_box_kernel(HIMAP_PARAMS(Box) p) {
  if constexpr (kSm90Compiled) {
    auto& shared = shared_struct<BoxShared>();
    if (thread_id() == 0) {
      mbarrier_init(shared.full, 1);
      mbarrier_init_fence();
      mbarrier_arrive_expect(shared.full, sizeof shared.rows);
      copy_tile(shared.rows, p.map, p.column, p.row, shared.full);
    }
    sync_threads();
    mbarrier_wait(shared.full, 0);
    for (int32_t i = thread_id(); i < kBoxRows * 64; i += 32) p.to[i] = shared.rows[i];
  } else {
    trap();
  }
}

TEST("tiles come swizzled, with zeros beyond the matrix") {
  if (skipped()) return;
  constexpr int64_t kRows = 50, kColumns = 171, kStride = 176;
  Random random(2);
  std::vector<uint16_t> from(kRows * kStride);
  for (uint16_t& value : from) value = static_cast<uint16_t>(random.bits() | 1);
  const Input<uint16_t> input(from);
  for (const bool is_f16 : {false, true}) {
    for (const int32_t row : {0, 24, 40, 48}) {
      for (const int32_t column : {0, 64, 128}) {
        Output<uint16_t> to(kBoxRows * 64);
        Box params{{}, to.get(), column, row};
        const TileSource source{.base = input.get(), .is_f16 = is_f16, .columns = kColumns, .rows = kRows, .row_stride = kStride};
        launched(make_tile_map(params.map, source, kBoxRows));
        launched(launch(sm90_box_kernel, {"box", {1}, 32, sizeof(BoxShared), nullptr}, params));
        const std::vector<uint16_t> got = to.read();
        int64_t wrong = 0;
        for (int32_t r = 0; r < kBoxRows; ++r) {
          for (int32_t c = 0; c < 64; ++c) {
            const bool inside = row + r < kRows && column + c < kColumns;
            const uint16_t expected = inside ? from[static_cast<size_t>((row + r) * kStride + column + c)] : 0;
            wrong += got[static_cast<size_t>(r * 64 + ((c / 8 ^ (r % 8)) * 8) + c % 8)] != expected;
          }
        }
        CHECK_EQ(wrong, int64_t{0});
      }
    }
  }
}

// --- wgmma -------------------------------------------------------------------------------------------------------

struct Warpgroups {
  TileMap a;  // (128, 64), boxes of 64 rows
  TileMap b;  // (8 kN, 64), boxes of all rows
  float* d;   // (2 warpgroups, 64, 8 kN): c on entry
};
template <int32_t kN>
struct WarpgroupsShared {
  alignas(1024) unsigned char a[2][64 * 128];
  alignas(1024) unsigned char b[8 * kN * 128];
  Mbarrier full;
};

/** Each of two warpgroups multiplies its 64 rows of a with all of b, in two groups of products. */
template <class T, int32_t kN>
HIMAP_KERNEL(256, 1) sm90_warpgroups_kernel(HIMAP_PARAMS(Warpgroups) p) {
  if constexpr (kSm90Compiled) {
    auto& shared = shared_struct<WarpgroupsShared<kN>>();
    if (thread_id() == 0) {
      mbarrier_init(shared.full, 1);
      mbarrier_init_fence();
      mbarrier_arrive_expect(shared.full, sizeof shared.a + sizeof shared.b);
      copy_tile(shared.a[0], p.a, 0, 0, shared.full);
      copy_tile(shared.a[1], p.a, 0, 64, shared.full);
      copy_tile(shared.b, p.b, 0, 0, shared.full);
    }
    sync_threads();
    mbarrier_wait(shared.full, 0);
    const int32_t warpgroup = thread_id() / 128, t = thread_id() % 128;
    const auto at = [&](int32_t n, int32_t i) {
      const int32_t row = t / 32 * 16 + t % 32 / 4 + 8 * (i >> 1), column = n * 8 + t % 4 * 2 + (i & 1);
      return p.d + (warpgroup * 64 + row) * 8 * kN + column;
    };
    float d[kN][4];
    HIMAP_UNROLL
    for (int32_t n = 0; n < kN; ++n) {
      HIMAP_UNROLL
      for (int32_t i = 0; i < 4; ++i) d[n][i] = *at(n, i);
    }
    const uint64_t a = swizzled_matrix(shared.a[warpgroup]), b = swizzled_matrix(shared.b);
    wgmma_begin(d);
    wgmma_m64k16<T>(d, a, b);
    wgmma_commit();
    HIMAP_UNROLL
    for (int32_t k = 1; k < 4; ++k) wgmma_m64k16<T>(d, a + 2 * k, b + 2 * k);
    wgmma_commit();
    wgmma_wait<1>(d);
    wgmma_wait<0>(d);
    if (warpgroup == 0) sync_warpgroup<0>();
    else sync_warpgroup<1>();
    HIMAP_UNROLL
    for (int32_t n = 0; n < kN; ++n) {
      HIMAP_UNROLL
      for (int32_t i = 0; i < 4; ++i) *at(n, i) = d[n][i];
    }
  } else {
    trap();
  }
}

/** `whole`: small whole numbers, whose sums are exact in any order. */
template <class T, int32_t kN>
void check_warpgroups(uint64_t seed, bool whole) {
  Random random(seed);
  const auto draw = [&] {
    if (whole) return round_to<T>(static_cast<float>(static_cast<int32_t>(random.bits() % 33) - 16));
    return round_to<T>(random.uniform() * std::ldexp(1.0f, static_cast<int>(random.bits() % 13) - 8));
  };
  constexpr int32_t kColumns = 8 * kN;
  std::vector<T> a(128 * 64), b(kColumns * 64);
  std::vector<float> c(128 * kColumns);
  for (T& value : a) value = draw();
  for (T& value : b) value = draw();
  for (float& value : c) value = whole ? static_cast<float>(random.bits() % 1000) : random.uniform();
  const Input<T> device_a(a), device_b(b);
  Output<float> d(c);
  Warpgroups params{{}, {}, d.get()};
  constexpr bool kIsF16 = kDTypeOf<T> == DType::kF16;
  launched(make_tile_map(params.a, {.base = device_a.get(), .is_f16 = kIsF16, .columns = 64, .rows = 128, .row_stride = 64}, 64));
  launched(make_tile_map(params.b, {.base = device_b.get(), .is_f16 = kIsF16, .columns = 64, .rows = kColumns, .row_stride = 64}, kColumns));
  launched(launch(sm90_warpgroups_kernel<T, kN>, {"warpgroups", {1}, 256, sizeof(WarpgroupsShared<kN>), nullptr}, params));
  const std::vector<float> got = d.read();
  int64_t wrong = 0;
  for (size_t i = 0; i < 128; ++i) {
    for (size_t j = 0; j < kColumns; ++j) {
      double sum = static_cast<double>(c[i * kColumns + j]), size = std::abs(sum);
      for (size_t k = 0; k < 64; ++k) {
        const double term = static_cast<double>(to_float(a[i * 64 + k])) * static_cast<double>(to_float(b[j * 64 + k]));
        sum += term;
        size += std::abs(term);
      }
      const double bound = whole ? 0 : test::float_sum_bound(64, size);
      wrong += !(std::abs(static_cast<double>(got[i * kColumns + j]) - sum) <= bound);
    }
  }
  CHECK_EQ(wrong, int64_t{0});
}

template <int32_t kN>
void check_width() {
  for (const bool whole : {true, false}) {
    check_warpgroups<Bf16, kN>(kN, whole);
    check_warpgroups<F16, kN>(kN, whole);
  }
}

TEST("wgmma multiplies at every width in use, exactly where the sums are exact") {
  if (skipped()) return;
  check_width<1>();
  check_width<2>();
  check_width<4>();
  check_width<8>();
  check_width<12>();
  check_width<16>();
  check_width<18>();
  check_width<22>();
  check_width<26>();
  check_width<32>();
}

struct Exchange {
  uint32_t* to;  // (256)
};
struct ExchangeShared {
  uint32_t values[2][256];
};

/** Two warpgroups pass values around among their own threads only; one does it more often. */
HIMAP_KERNEL(256, 1) sm90_exchange_kernel(HIMAP_PARAMS(Exchange) p) {
  auto& shared = shared_struct<ExchangeShared>();
  const int32_t first = thread_id() / 128 * 128, t = thread_id() % 128, rounds = first == 0 ? 10 : 30;
  shared.values[0][thread_id()] = static_cast<uint32_t>(thread_id());
  for (int32_t round = 0; round < rounds; ++round) {
    if (first == 0) sync_warpgroup<0>();
    else sync_warpgroup<1>();
    const uint32_t* from = shared.values[round % 2] + first;
    shared.values[(round + 1) % 2][thread_id()] = from[(t + 37) % 128] * 3 + from[127 - t];
  }
  p.to[thread_id()] = shared.values[rounds % 2][thread_id()];
}

TEST("warpgroups have barriers of their own") {
  Output<uint32_t> to(256);
  launched(launch(sm90_exchange_kernel, {"exchange", {1}, 256, sizeof(ExchangeShared), nullptr}, Exchange{to.get()}));
  const std::vector<uint32_t> got = to.read();
  for (uint32_t first : {0u, 128u}) {
    std::vector<uint32_t> values(128), next(128);
    for (uint32_t i = 0; i < 128; ++i) values[i] = first + i;
    for (int32_t round = 0; round < (first == 0 ? 10 : 30); ++round) {
      for (uint32_t i = 0; i < 128; ++i) next[i] = values[(i + 37) % 128] * 3 + values[127 - i];
      values.swap(next);
    }
    CHECK(std::equal(values.begin(), values.end(), got.begin() + first));
  }
}

}  // namespace
}  // namespace himap::device

TEST_MAIN()
