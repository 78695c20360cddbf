// Conformance: every wrapper of kernels/device.h against a definition written here, on random bits.
//
// The same source is a program for a card (nvcc -x cu) and one for the host's SIMT machine (g++). What both satisfy makes
// the machine's word about a kernel worth something, so on a card this program runs first.
#include <cmath>
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

std::vector<uint32_t> random_bits(uint64_t seed, size_t n) {
  Random random(seed);
  std::vector<uint32_t> words(n);
  for (uint32_t& word : words) word = random.bits();
  return words;
}

// --- Conversions -------------------------------------------------------------------------------------------------

/** A 16-bit float by its definition: sign, `kExponent` bits of exponent, the rest mantissa. */
template <int32_t kExponent>
double value_of(uint16_t bits) {
  constexpr int32_t kMantissa = 15 - kExponent, kBias = (1 << (kExponent - 1)) - 1;
  const int32_t exponent = bits >> kMantissa & ((1 << kExponent) - 1), mantissa = bits & ((1 << kMantissa) - 1);
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  if (exponent == (1 << kExponent) - 1) return mantissa ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - kBias - kMantissa);
  return sign * std::ldexp(mantissa + (1 << kMantissa), exponent - kBias - kMantissa);
}

/** The nearest 16-bit float, ties to the even one, by bisection over the positive ones. */
template <int32_t kExponent>
uint16_t nearest(float value) {
  constexpr int32_t kInfinity = ((1 << kExponent) - 1) << (15 - kExponent);
  if (std::isnan(value)) return 0x7fff;
  const double magnitude = std::abs(static_cast<double>(value));
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  int32_t low = 0, high = kInfinity;
  while (low < high) {  // the last that is not above
    const int32_t middle = (low + high + 1) / 2;
    if (value_of<kExponent>(static_cast<uint16_t>(middle)) <= magnitude) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  if (low == kInfinity) return static_cast<uint16_t>(sign | low);
  // Above the last finite one the next step counts as the power of two that it would be.
  const double below = value_of<kExponent>(static_cast<uint16_t>(low));
  const double step = low > 0 && low + 1 == kInfinity ? below - value_of<kExponent>(static_cast<uint16_t>(low - 1))
                                                      : value_of<kExponent>(static_cast<uint16_t>(low + 1)) - below;
  const double rest = magnitude - below;
  if (rest > step / 2 || (rest == step / 2 && low % 2 == 1)) ++low;
  return static_cast<uint16_t>(sign | low);
}

struct Convert {
  const uint32_t* from;  // (n) floats
  uint16_t* narrow;      // (n)
  uint32_t* pairs;       // (n) each float with its negative
  uint32_t* wide;        // (65536) every 16-bit value as a float
  int32_t n;
};

template <class T>
HIMAP_KERNEL(256, 1) convert_kernel(HIMAP_PARAMS(Convert) p) {
  const int32_t i = block_x() * 256 + thread_id();
  if (i < p.n) {
    const float value = bits_float(p.from[i]);
    p.narrow[i] = round_to<T>(value).bits;
    p.pairs[i] = pack<T>(value, -value);
  }
  if (i < 65536) p.wide[i] = float_bits(i % 2 ? to_float(T{static_cast<uint16_t>(i)}) : unpack_high<T>(static_cast<uint32_t>(i) << 16));
}

template <class T, int32_t kExponent>
void check_conversions() {
  std::vector<uint32_t> from = random_bits(11, 60000);
  // Every value itself, halfway to the next and a little to either side; then what random bits rarely meet.
  for (uint32_t bits = 0; bits < 65536; bits += 7) {
    const double value = value_of<kExponent>(static_cast<uint16_t>(bits)), next = value_of<kExponent>(static_cast<uint16_t>(bits + 1));
    if (!std::isfinite(value) || !std::isfinite(next)) continue;
    const auto half = static_cast<float>((value + next) / 2);
    for (const float f : {static_cast<float>(value), half, std::nextafter(half, 0.0f), std::nextafter(half, 2 * half)}) from.push_back(float_bits(f));
  }
  for (const float f : {0.0f, -0.0f, 65504.0f, 65519.99f, 65520.0f, 1e9f, -1e9f, 3.4e38f, 5.9e-8f, 2.9e-8f, 2.98e-8f, 1e-40f}) from.push_back(float_bits(f));
  for (const float f : {INFINITY, -INFINITY, NAN, -NAN}) from.push_back(float_bits(f));
  const auto n = static_cast<int32_t>(from.size());
  const Input<uint32_t> input(from);
  Output<uint16_t> narrow(from.size());
  Output<uint32_t> pairs(from.size()), wide(65536);
  const auto blocks = static_cast<uint32_t>((std::max(n, 65536) + 255) / 256);
  launched(launch(convert_kernel<T>, {"convert", {blocks}, 256, 0, nullptr}, Convert{input.get(), narrow.get(), pairs.get(), wide.get(), n}));
  const std::vector<uint16_t> got = narrow.read();
  const std::vector<uint32_t> both = pairs.read(), floats = wide.read();
  for (size_t i = 0; i < from.size(); ++i) {
    const float value = bits_float(from[i]);
    CHECK_EQ(got[i], nearest<kExponent>(value));
    CHECK_EQ(both[i], uint32_t{nearest<kExponent>(value)} | uint32_t{nearest<kExponent>(-value)} << 16);
  }
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const double expected = value_of<kExponent>(static_cast<uint16_t>(bits)), wide_value = static_cast<double>(bits_float(floats[bits]));
    CHECK(std::isnan(expected) ? std::isnan(wide_value) : wide_value == expected && std::signbit(wide_value) == std::signbit(expected));
  }
}

TEST("conversions of bf16: every value, and rounding of random bits") { check_conversions<Bf16, 8>(); }
TEST("conversions of fp16: every value, and rounding of random bits") { check_conversions<F16, 5>(); }

// --- Warps -------------------------------------------------------------------------------------------------------

constexpr int32_t kExchanges = 7;

struct Exchange {
  const uint32_t* from;     // (64)
  const int32_t* argument;  // (64)
  uint32_t* to;             // (kExchanges, 64)
  float* sums;              // (2, 64)
  int32_t distance;
};

HIMAP_KERNEL(64, 1) exchange_kernel(HIMAP_PARAMS(Exchange) p) {
  const int32_t t = thread_id();
  const uint32_t value = p.from[t];
  const uint32_t results[kExchanges] = {shuffle(value, p.argument[t]),
                                        shuffle_xor(value, p.distance),
                                        shuffle_up(value, p.distance),
                                        shuffle_down(value, p.distance),
                                        ballot(value % 2 == 1),
                                        static_cast<uint32_t>(popcount(value)),
                                        float_bits(shuffle(bits_float(value & 0xbfffffffu), 31 - lane_id()))};
  for (int32_t i = 0; i < kExchanges; ++i) p.to[i * 64 + t] = results[i];
  const float small = static_cast<float>(static_cast<int32_t>(value)) * 0x1p-31f;
  p.sums[t] = warp_sum(small);
  p.sums[64 + t] = warp_max(small);
}

TEST("shuffles, ballots and sums of a warp") {
  const std::vector<uint32_t> from = random_bits(21, 64);
  Random random(22);
  std::vector<int32_t> argument(64);
  for (int32_t& lane : argument) lane = static_cast<int32_t>(random.bits() % 32);
  const Input<uint32_t> input(from);
  const Input<int32_t> arguments(argument);
  for (int32_t distance = 0; distance < 32; ++distance) {
    Output<uint32_t> to(kExchanges * 64);
    Output<float> sums(128);
    launched(launch(exchange_kernel, {"exchange", {1}, 64, 0, nullptr}, Exchange{input.get(), arguments.get(), to.get(), sums.get(), distance}));
    const std::vector<uint32_t> got = to.read();
    const std::vector<float> sum = sums.read();
    for (int32_t warp = 0; warp < 64; warp += 32) {
      const uint32_t* v = from.data() + warp;
      uint32_t bits = 0;
      float tree[32], largest = -2;
      for (int32_t l = 0; l < 32; ++l) {
        bits |= (v[l] % 2) << l;
        tree[l] = static_cast<float>(static_cast<int32_t>(v[l])) * 0x1p-31f;
        largest = std::max(largest, tree[l]);
      }
      for (int32_t d = 16; d > 0; d /= 2) {
        float next[32];
        for (int32_t l = 0; l < 32; ++l) next[l] = tree[l] + tree[l ^ d];
        std::copy(next, next + 32, tree);
      }
      for (int32_t l = 0; l < 32; ++l) {
        const auto at = [&](int32_t i) { return got[static_cast<size_t>(i * 64 + warp + l)]; };
        CHECK_EQ(at(0), v[argument[static_cast<size_t>(warp + l)]]);
        CHECK_EQ(at(1), v[l ^ distance]);
        CHECK_EQ(at(2), v[l < distance ? l : l - distance]);
        CHECK_EQ(at(3), v[l + distance > 31 ? l : l + distance]);
        CHECK_EQ(at(4), bits);
        CHECK_EQ(at(5), static_cast<uint32_t>(__builtin_popcount(v[l])));
        CHECK_EQ(at(6), v[31 - l] & 0xbfffffffu);
        CHECK_EQ(sum[static_cast<size_t>(warp + l)], tree[l]);
        CHECK_EQ(sum[static_cast<size_t>(64 + warp + l)], largest);
      }
    }
  }
}

struct Matrices {
  const uint16_t* from;    // (32, 8) rows
  const int32_t* row_of;   // (32) which row each lane points at
  uint32_t* plain;         // (32, 4)
  uint32_t* transposed;    // (32, 4)
};
struct MatricesShared {
  alignas(16) uint16_t rows[32][8];
};

HIMAP_KERNEL(32, 1) matrices_kernel(HIMAP_PARAMS(Matrices) p) {
  auto& shared = shared_struct<MatricesShared>();
  for (int32_t i = 0; i < 8; ++i) shared.rows[thread_id()][i] = p.from[thread_id() * 8 + i];
  sync_warp();
  uint32_t plain[4], transposed[4];
  load_matrix_x4(plain, shared.rows[p.row_of[thread_id()]]);
  load_matrix_x4_trans(transposed, shared.rows[p.row_of[thread_id()]]);
  for (int32_t i = 0; i < 4; ++i) {
    p.plain[thread_id() * 4 + i] = plain[i];
    p.transposed[thread_id() * 4 + i] = transposed[i];
  }
}

TEST("load_matrix delivers rows, or columns, in the fragments of mma") {
  Random random(31);
  std::vector<uint16_t> from(256);
  for (uint16_t& value : from) value = static_cast<uint16_t>(random.bits());
  std::vector<int32_t> row_of(32);
  for (int32_t i = 0; i < 32; ++i) row_of[static_cast<size_t>(i)] = (i * 13 + 5) % 32;
  const Input<uint16_t> input(from);
  const Input<int32_t> rows(row_of);
  Output<uint32_t> plain(128), transposed(128);
  launched(launch(matrices_kernel, {"matrices", {1}, 32, sizeof(MatricesShared), nullptr}, Matrices{input.get(), rows.get(), plain.get(), transposed.get()}));
  const std::vector<uint32_t> got = plain.read(), got_transposed = transposed.read();
  const auto element = [&](size_t tile, size_t row, size_t column) {
    return uint32_t{from[static_cast<size_t>(row_of[tile * 8 + row]) * 8 + column]};
  };
  for (size_t lane = 0; lane < 32; ++lane) {
    for (size_t tile = 0; tile < 4; ++tile) {
      const size_t g = lane / 4, t = lane % 4;
      CHECK_EQ(got[lane * 4 + tile], element(tile, g, 2 * t) | element(tile, g, 2 * t + 1) << 16);
      CHECK_EQ(got_transposed[lane * 4 + tile], element(tile, 2 * t, g) | element(tile, 2 * t + 1, g) << 16);
    }
  }
}

struct Product {
  const uint16_t* a;  // (16, 16)
  const uint16_t* b;  // (8, 16): column j of b is row j here
  const float* c;     // (16, 8)
  float* d;           // (16, 8)
};

template <class T>
HIMAP_KERNEL(32, 1) product_kernel(HIMAP_PARAMS(Product) p) {
  const int32_t g = lane_id() / 4, t = lane_id() % 4;
  const auto pair = [](const uint16_t* at) { return uint32_t{at[0]} | uint32_t{at[1]} << 16; };
  const uint32_t a[4] = {pair(p.a + g * 16 + 2 * t), pair(p.a + (g + 8) * 16 + 2 * t), pair(p.a + g * 16 + 2 * t + 8), pair(p.a + (g + 8) * 16 + 2 * t + 8)};
  const uint32_t b[2] = {pair(p.b + g * 16 + 2 * t), pair(p.b + g * 16 + 2 * t + 8)};
  float d[4];
  for (int32_t i = 0; i < 4; ++i) d[i] = p.c[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  mma_m16n8k16<T>(d, a, b);
  for (int32_t i = 0; i < 4; ++i) p.d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}

/** `whole`: small whole numbers, whose sums are exact in any order; else random bits with exponents kept apart from overflow. */
template <class T>
void check_product(uint64_t seed, bool whole) {
  Random random(seed);
  const auto draw = [&] {
    if (whole) return round_to<T>(static_cast<float>(static_cast<int32_t>(random.bits() % 33) - 16)).bits;
    const float scale = std::ldexp(1.0f, static_cast<int>(random.bits() % 13) - 8);
    return round_to<T>(random.uniform() * scale).bits;
  };
  std::vector<uint16_t> a(256), b(128);
  std::vector<float> c(128);
  for (uint16_t& value : a) value = draw();
  for (uint16_t& value : b) value = draw();
  for (float& value : c) value = whole ? static_cast<float>(random.bits() % 1000) : random.uniform();
  const Input<uint16_t> device_a(a), device_b(b);
  const Input<float> device_c(c);
  Output<float> d(128);
  launched(launch(product_kernel<T>, {"product", {1}, 32, 0, nullptr}, Product{device_a.get(), device_b.get(), device_c.get(), d.get()}));
  const std::vector<float> got = d.read();
  for (size_t i = 0; i < 16; ++i) {
    for (size_t j = 0; j < 8; ++j) {
      double sum = static_cast<double>(c[i * 8 + j]), size = std::abs(sum);
      for (size_t k = 0; k < 16; ++k) {
        const double term = static_cast<double>(to_float(T{a[i * 16 + k]})) * static_cast<double>(to_float(T{b[j * 16 + k]}));
        sum += term;
        size += std::abs(term);
      }
      const double bound = whole ? 0 : test::float_sum_bound(16, size);
      CHECK(std::abs(static_cast<double>(got[i * 8 + j]) - sum) <= bound);
    }
  }
}

TEST("mma multiplies, exactly where the sums are exact") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    check_product<Bf16>(seed, seed % 2 == 0);
    check_product<F16>(seed, seed % 2 == 0);
  }
}

// --- Memory ------------------------------------------------------------------------------------------------------

struct Copies {
  const unsigned char* from;  // (steps, 64, 16)
  unsigned char* to;          // (steps, 64, 16)
  int32_t steps;
};
struct CopiesShared {
  alignas(16) unsigned char slot[3][64][16];
};

HIMAP_KERNEL(64, 1) copies_kernel(HIMAP_PARAMS(Copies) p) {
  auto& shared = shared_struct<CopiesShared>();
  const auto fetch = [&](int32_t step) {
    if (step < p.steps) {
      copy_async_16(shared.slot[step % 3][thread_id()], p.from + (step * 64 + thread_id()) * 16, (step + thread_id()) % 17);
    }
    copy_async_commit();
  };
  fetch(0);
  fetch(1);
  for (int32_t step = 0; step < p.steps; ++step) {
    copy_async_wait<1>();
    sync_threads();
    const int32_t twin = 63 - thread_id();
    for (int32_t i = 0; i < 16; ++i) p.to[(step * 64 + twin) * 16 + i] = shared.slot[step % 3][twin][i];
    fetch(step + 2);
  }
}

TEST("asynchronous copies bring their bytes, zeros after them, and in the order of their groups") {
  const int32_t steps = 20;
  Random random(41);
  std::vector<unsigned char> from(static_cast<size_t>(steps) * 1024);
  for (unsigned char& byte : from) byte = static_cast<unsigned char>(random.bits() | 1);
  const Input<unsigned char> input(from);
  Output<unsigned char> to(from.size());
  launched(launch(copies_kernel, {"copies", {1}, 64, sizeof(CopiesShared), nullptr}, Copies{input.get(), to.get(), steps}));
  const std::vector<unsigned char> got = to.read();
  for (size_t i = 0; i < from.size(); ++i) {
    const size_t step = i / 1024, thread = i / 16 % 64;
    CHECK_EQ(got[i], static_cast<unsigned char>(i % 16 < (step + thread) % 17 ? from[i] : 0));
  }
}

struct Stream16 {
  const Vec16* from;  // (128)
  Vec16* to;          // (128) reversed, by way of the far end of a large block of shared memory
};
struct Stream16Shared {
  Vec16 unused[4096];
  Vec16 values[128];
};

HIMAP_KERNEL(128, 1) stream_kernel(HIMAP_PARAMS(Stream16) p) {
  auto& shared = shared_struct<Stream16Shared>();
  shared.values[thread_id()] = load_stream_16(p.from + thread_id());
  sync_threads();
  p.to[thread_id()] = shared_array<Vec16>()[4096 + 127 - thread_id()];
}

TEST("streaming loads, and more shared memory than a launch has without asking") {
  const std::vector<uint32_t> from = random_bits(51, 512);
  const Input<uint32_t> input(from);
  Output<uint32_t> to(512);
  launched(launch(stream_kernel, {"stream", {1}, 128, sizeof(Stream16Shared), nullptr},
                  Stream16{reinterpret_cast<const Vec16*>(input.get()), reinterpret_cast<Vec16*>(to.get())}));
  const std::vector<uint32_t> got = to.read();
  for (size_t i = 0; i < 512; ++i) CHECK_EQ(got[i], from[(127 - i / 4) * 4 + i % 4]);
}

struct Merge {
  uint32_t* partial;   // (blocks)
  uint32_t* arrivals;  // (1) zero
  uint32_t* counts;    // (2) zero
  uint32_t* tickets;   // (blocks) zero
  uint32_t* total;     // (1)
};
struct MergeShared {
  uint32_t last;
};

HIMAP_KERNEL(64, 1) merge_kernel(HIMAP_PARAMS(Merge) p) {
  auto& shared = shared_struct<MergeShared>();
  atomic_add(p.counts, 1u);
  if (thread_id() == 40) {
    p.partial[block_x()] = static_cast<uint32_t>(block_x() * block_x() + 1);
    atomic_add(p.tickets + atomic_add(reinterpret_cast<int32_t*>(p.counts + 1), 1), 1u);
  }
  sync_threads();
  if (thread_id() == 0) shared.last = atomic_add_ordered(p.arrivals, 1) + 1 == static_cast<uint32_t>(grid_x());
  sync_threads();
  if (!shared.last || thread_id() != 33) return;
  uint32_t total = 0;
  for (int32_t i = 0; i < grid_x(); ++i) total += p.partial[i];
  *p.total = total;
}

TEST("atomics count, give each caller its own ticket, and let the last block see what all wrote") {
  constexpr uint32_t kBlocks = 500;
  for (int32_t round = 0; round < 5; ++round) {
    Output<uint32_t> partial(kBlocks), total(1);
    const std::vector<uint32_t> zeros(kBlocks);
    Output<uint32_t> arrivals(zeros), counts(zeros), tickets(zeros);
    launched(launch(merge_kernel, {"merge", {kBlocks}, 64, sizeof(MergeShared), nullptr},
                    Merge{partial.get(), arrivals.get(), counts.get(), tickets.get(), total.get()}));
    uint32_t expected = 0;
    for (uint32_t i = 0; i < kBlocks; ++i) expected += i * i + 1;
    CHECK_EQ(total.read()[0], expected);
    CHECK_EQ(arrivals.read()[0], kBlocks);
    CHECK_EQ(counts.read()[0], kBlocks * 64);
    for (const uint32_t uses : tickets.read()) CHECK_EQ(uses, 1u);
  }
}

struct Barriers {
  uint32_t* to;  // (blocks)
};
struct BarriersShared {
  uint32_t values[2][256];
};

HIMAP_KERNEL(256, 1) barriers_kernel(HIMAP_PARAMS(Barriers) p) {
  auto& shared = shared_struct<BarriersShared>();
  shared.values[0][thread_id()] = static_cast<uint32_t>(thread_id() + block_x());
  // Each round reads what three other warps wrote in the round before.
  for (int32_t round = 0; round < 64; ++round) {
    sync_threads();
    const uint32_t* from = shared.values[round % 2];
    shared.values[(round + 1) % 2][thread_id()] = from[(thread_id() + 37) % 256] * 3 + from[(thread_id() + 101) % 256] + from[255 - thread_id()];
  }
  sync_threads();
  if (thread_id() == 0) p.to[block_x()] = shared.values[0][200];
}

TEST("barriers of a block") {
  Output<uint32_t> to(9);
  launched(launch(barriers_kernel, {"barriers", {9}, 256, sizeof(BarriersShared), nullptr}, Barriers{to.get()}));
  const std::vector<uint32_t> got = to.read();
  for (uint32_t block = 0; block < 9; ++block) {
    std::vector<uint32_t> values(256), next(256);
    for (uint32_t i = 0; i < 256; ++i) values[i] = i + block;
    for (int32_t round = 0; round < 64; ++round) {
      for (uint32_t i = 0; i < 256; ++i) next[i] = values[(i + 37) % 256] * 3 + values[(i + 101) % 256] + values[255 - i];
      values.swap(next);
    }
    CHECK_EQ(got[block], values[200]);
  }
}

// --- Numbers -----------------------------------------------------------------------------------------------------

struct Approximations {
  const float* from;  // (n)
  float* to;          // (3, n)
  int32_t n;
};

HIMAP_KERNEL(128, 1) approximations_kernel(HIMAP_PARAMS(Approximations) p) {
  const int32_t i = block_x() * 128 + thread_id();
  if (i >= p.n) return;
  const float x = p.from[i];
  p.to[i] = exp2_approx(x);
  p.to[p.n + i] = log2_approx(fabsf(x));
  p.to[2 * p.n + i] = rsqrt_approx(fabsf(x));
}

TEST("approximations are within four units of the last place, and right at the ends") {
  Random random(61);
  std::vector<float> from(4096);
  for (float& value : from) value = random.uniform() * 120;
  from[0] = 0.0f;
  from[1] = -INFINITY;
  from[2] = 1.0f;
  from[3] = -1000.0f;
  const Input<float> input(from);
  Output<float> to(3 * from.size());
  launched(launch(approximations_kernel, {"approximations", {32}, 128, 0, nullptr}, Approximations{input.get(), to.get(), 4096}));
  const std::vector<float> got = to.read();
  const auto close = [](float value, double expected, double floor) {
    if (std::isinf(expected)) return static_cast<double>(value) == expected;
    return std::abs(static_cast<double>(value) - expected) <= 4 * 0x1p-23 * std::max(std::abs(expected), floor);
  };
  for (size_t i = 0; i < from.size(); ++i) {
    const double x = static_cast<double>(from[i]);
    CHECK(close(got[i], std::exp2(x), 1e-37));  // results below the normal numbers may be zero
    CHECK(close(got[4096 + i], std::log2(std::abs(x)), 1.0));
    CHECK(close(got[8192 + i], 1 / std::sqrt(std::abs(x)), 1e-37));
  }
}

struct Places {
  int32_t* to;  // (z, y, x, 64) packed
};

HIMAP_KERNEL(64, 1) places_kernel(HIMAP_PARAMS(Places) p) {
  const int32_t block = (block_z() * grid_y() + block_y()) * grid_x() + block_x();
  p.to[block * block_threads() + thread_id()] =
      (((block_z() * 16 + block_y()) * 16 + block_x()) * 64 + warp_id() * 32 + lane_id()) * 16 + grid_z();
}

TEST("threads know their place, and impossible launches are refused") {
  Output<int32_t> to(2 * 3 * 5 * 64);
  launched(launch(places_kernel, {"places", {5, 3, 2}, 64, 0, nullptr}, Places{to.get()}));
  const std::vector<int32_t> got = to.read();
  for (int32_t i = 0; i < 2 * 3 * 5 * 64; ++i) {
    const int32_t z = i / 64 / 15, y = i / 64 / 5 % 3, x = i / 64 % 5;
    CHECK_EQ(got[static_cast<size_t>(i)], (((z * 16 + y) * 16 + x) * 64 + i % 64) * 16 + 2);
  }
  CHECK(launch(places_kernel, {"places", {1}, 2048, 0, nullptr}, Places{to.get()}) != kNoError);
  launched(launch(places_kernel, {"places", {5, 3, 2}, 64, 0, nullptr}, Places{to.get()}));
}

}  // namespace
}  // namespace himap::device

TEST_MAIN()
