// Linear layers of a card: against a double loop, at sizes that fit no tile, and bit for bit alone or among others.
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "kernels/linear/launch_linear.h"
#include "kernels/linear/sm90_linear_tiles.h"
#include "test/native/kernel_fixture.h"

namespace himap {
namespace {

using test::Input;
using test::Output;
using test::Random;
using test::random_values;

/** The families that the device under test has. */
std::vector<LinearFamily> families() {
  if (device::has_sm90()) return {LinearFamily::kMma, LinearFamily::kWgmma};
  return {LinearFamily::kMma};
}

/** A layer with random weights, repacked on the device. */
template <class T>
struct Layer {
  Layer(int64_t out, int64_t in, bool gate_up, uint64_t seed) : random(seed) {
    weight = random_values<T>(random, out * in, 2.0f / std::sqrt(static_cast<float>(in)));
    bias = random_values<float>(random, out, 0.5f);
    image = {.data = nullptr, .type = kDTypeOf<T>, .gate_up = gate_up, .out = out, .in = in};
    memory = std::make_unique<Output<unsigned char>>(std::vector<unsigned char>(static_cast<size_t>(image.bytes()), 0));
    image.data = memory->get();
    const Input<T> part(weight);
    test::launched(launch_repack({.image = image, .part = part.get(), .type = image.type, .first_row = 0, .rows = out}, nullptr));
    device_bias = std::make_unique<Input<float>>(bias);
  }

  Random random;
  std::vector<T> weight;  // (out, in)
  std::vector<float> bias;
  WeightImage image;
  std::unique_ptr<Output<unsigned char>> memory;
  std::unique_ptr<Input<float>> device_bias;
};

struct Options {
  int64_t rows = 1;
  Phase phase = Phase::kPrefill;
  Epilogue epilogue = Epilogue::kNone;
  bool bias = true;
  bool residual = false;
  bool y_is_float = false;
  int64_t x_stride = 0;  // 0: in
  LinearFamily family = LinearFamily::kMma;
  int32_t sm90_tile = -1;  // -1: the launcher's choice
};

struct Workspace {
  Output<float> partials{static_cast<size_t>(kLinearPartials)};
  Output<uint32_t> arrivals{std::vector<uint32_t>(static_cast<size_t>(kLinearArrivals), 0)};
  LinearWorkspace get() { return {partials.get(), arrivals.get()}; }
};

Workspace& workspace() {
  static Workspace shared;
  return shared;
}

double activate(double value, Epilogue epilogue) {
  if (epilogue == Epilogue::kQuickGelu) return value / (1 + std::exp(-1.702 * value));
  if (epilogue == Epilogue::kGelu) return 0.5 * value * (1 + std::erf(value / std::sqrt(2.0)));
  return value;
}

/** y, with sums in Sum: double for what is right, float for a naive implementation in the same precision. */
template <class Sum, class T>
std::vector<double> naive(const Layer<T>& layer, const std::vector<T>& x, const std::vector<T>& residual, const Options& o) {
  const int64_t in = layer.image.in, columns = layer.image.columns(), stride = o.x_stride ? o.x_stride : in;
  const auto dot = [&](int64_t row, int64_t of) {
    Sum sum = 0;
    for (int64_t k = 0; k < in; ++k) {
      sum += static_cast<Sum>(to_float(x[static_cast<size_t>(row * stride + k)])) *
             static_cast<Sum>(to_float(layer.weight[static_cast<size_t>(of * in + k)]));
    }
    return static_cast<double>(sum) + (o.bias ? static_cast<double>(layer.bias[static_cast<size_t>(of)]) : 0.0);
  };
  std::vector<double> y(static_cast<size_t>(o.rows * columns));
  for (int64_t row = 0; row < o.rows; ++row) {
    for (int64_t c = 0; c < columns; ++c) {
      const size_t at = static_cast<size_t>(row * columns + c);
      double value = dot(row, c);
      if (o.epilogue == Epilogue::kSwiGlu) {
        value = value / (1 + std::exp(-value)) * dot(row, columns + c);
      } else {
        value = activate(value, o.epilogue);
      }
      if (o.residual) value += static_cast<double>(to_float(residual[at]));
      y[at] = value;
    }
  }
  return y;
}

/** For each output that is a plain sum: the most by which it may be off in float32. */
template <class T>
std::vector<double> sum_bounds(const Layer<T>& layer, const std::vector<T>& x, const Options& o) {
  const int64_t in = layer.image.in;
  std::vector<double> bounds;
  for (int64_t row = 0; row < o.rows; ++row) {
    for (int64_t c = 0; c < layer.image.columns(); ++c) {
      double size = 0;
      for (int64_t k = 0; k < in; ++k) {
        size += std::abs(static_cast<double>(to_float(x[static_cast<size_t>(row * in + k)])) *
                         static_cast<double>(to_float(layer.weight[static_cast<size_t>(c * in + k)])));
      }
      bounds.push_back(test::float_sum_bound(in, size));
    }
  }
  return bounds;
}

template <class Y, class T>
std::vector<Y> run(Layer<T>& layer, const std::vector<T>& x, const std::vector<T>& residual, const Options& o) {
  const Input<T> device_x(x);
  const size_t elements = static_cast<size_t>(o.rows * layer.image.columns());
  // The residual is y itself, as the decoder has it.
  std::vector<Y> before;
  if constexpr (std::is_same_v<Y, T>) before = residual;
  Output<Y> y = o.residual ? Output<Y>(before) : Output<Y>(elements);
  const LinearLaunch launch{.x = device_x.get(),
                            .x_stride = o.x_stride ? o.x_stride : layer.image.in,
                            .weight = &layer.image,
                            .maybe_bias = o.bias ? layer.device_bias->get() : nullptr,
                            .maybe_residual = o.residual ? y.get() : nullptr,
                            .y = y.get(),
                            .y_is_float = o.y_is_float,
                            .rows = o.rows,
                            .phase = o.phase,
                            .epilogue = o.epilogue,
                            .workspace = workspace().get(),
                            .family = o.family};
  test::launched(o.sm90_tile < 0 ? launch_linear(launch, nullptr) : launch_sm90_linear(launch, o.sm90_tile, nullptr));
  return y.read();
}

/** Checks one layer and one way to run it, by every family. */
template <class T, class Y = T>
void check_layer(int64_t out, int64_t in, Options o) {
  o.y_is_float = !std::is_same_v<Y, T>;
  Layer<T> layer(out, in, o.epilogue == Epilogue::kSwiGlu, static_cast<uint64_t>(out * 131 + in));
  const int64_t columns = layer.image.columns();
  std::vector<T> x = random_values<T>(layer.random, o.rows * (o.x_stride ? o.x_stride : in), 1.0f);
  std::vector<T> residual;
  if (o.residual) residual = random_values<T>(layer.random, o.rows * columns, 1.0f);
  const std::vector<double> right = naive<double>(layer, x, residual, o), simple = naive<float>(layer, x, residual, o);
  const std::vector<double> bounds = o.y_is_float ? sum_bounds(layer, x, o) : std::vector<double>();
  for (const LinearFamily family : families()) {
    o.family = family;
    const std::vector<Y> y = run<Y>(layer, x, residual, o);
    double worst = 0, worst_simple = 0;
    bool within = true;
    for (size_t i = 0; i < right.size(); ++i) {
      const double error = std::abs(static_cast<double>(to_float(y[i])) - right[i]);
      if (!(error <= 1e9)) return test::report(__FILE__, __LINE__, "an output is not finite");
      worst = std::max(worst, error);
      if (o.y_is_float) within = within && error <= bounds[i];
      worst_simple = std::max(worst_simple, std::abs(static_cast<double>(to_float(round_to<Y>(static_cast<float>(simple[i])))) - right[i]));
    }
    // Sums below the place that rounding sees may differ by the order of adding alone.
    if (!o.y_is_float) within = worst <= 2 * worst_simple + 1e-7;
    if (within) continue;
    char text[200];
    std::snprintf(text, sizeof text, "%lld x %lld, %lld rows, family %d, phase %d, epilogue %d: worst error %.3g, naive %.3g",
                  static_cast<long long>(out), static_cast<long long>(in), static_cast<long long>(o.rows), static_cast<int>(family),
                  static_cast<int>(o.phase), static_cast<int>(o.epilogue), worst, worst_simple);
    test::report(__FILE__, __LINE__, text);
  }
}

TEST("the image holds every weight once, and zeros elsewhere") {
  for (const bool gate_up : {false, true}) {
    for (const int64_t out : {2, 16, 34, 128, 172, 258}) {
      const int64_t in = 71;
      const WeightImage image{.data = nullptr, .type = DType::kBF16, .gate_up = gate_up, .out = out, .in = in};
      std::vector<uint16_t> memory(static_cast<size_t>(image.bytes() / 2));
      std::vector<Bf16> part(static_cast<size_t>(out * in));
      for (size_t i = 0; i < part.size(); ++i) part[i].bits = static_cast<uint16_t>(i + 1);
      WeightImage to = image;
      to.data = memory.data();
      // In two parts, as gate and up or as q and k come.
      const int64_t half = out / 2;
      repack_on_host({.image = to, .part = part.data(), .type = DType::kBF16, .first_row = 0, .rows = half});
      repack_on_host({.image = to, .part = part.data() + half * in, .type = DType::kBF16, .first_row = half, .rows = out - half});
      std::vector<int> seen(part.size() + 1);
      for (const uint16_t bits : memory) {
        if (bits != 0) ++seen[bits];
      }
      for (size_t i = 1; i < seen.size(); ++i) CHECK_EQ(seen[i], 1);
      for (int64_t row = 0; row < out; ++row) {
        for (int64_t column = 0; column < in; column += 8) {
          const auto at = image.chunk_offset(image.image_row(row), column) / 2;
          CHECK_EQ(memory[static_cast<size_t>(at)], part[static_cast<size_t>(row * in + column)].bits);
        }
      }
      // What one lane gets: two neighbours, or a gate and its up.
      const int64_t twin = gate_up ? half : 1;
      CHECK_EQ(image.image_row(twin), image.image_row(0) + 8);
    }
  }
}

TEST("the device's repack is the host's, from every type") {
  Random random(3);
  const int64_t out = 50, in = 75;
  const std::vector<float> wide = random_values<float>(random, out * in, 3.0f);
  const std::vector<F16> f16 = random_values<F16>(random, out * in, 3.0f);
  const std::vector<Bf16> bf16 = random_values<Bf16>(random, out * in, 3.0f);
  for (const DType to : {DType::kF16, DType::kBF16}) {
    const auto check = [&](const auto& part, DType type) {
      WeightImage image{.data = nullptr, .type = to, .gate_up = false, .out = out, .in = in};
      std::vector<unsigned char> expected(static_cast<size_t>(image.bytes()));
      image.data = expected.data();
      repack_on_host({.image = image, .part = part.data(), .type = type, .first_row = 0, .rows = out});
      Output<unsigned char> got(std::vector<unsigned char>(expected.size(), 0));
      image.data = got.get();
      const Input device_part(part);
      test::launched(launch_repack({.image = image, .part = device_part.get(), .type = type, .first_row = 0, .rows = out}, nullptr));
      CHECK(got.read() == expected);
    };
    check(wide, DType::kF32);
    check(f16, DType::kF16);
    check(bf16, DType::kBF16);
  }
}

TEST("prefill at sizes around the tiles") {
  for (const int64_t rows : {1, 7, 37, 64, 65}) check_layer<Bf16>(48, 64, {.rows = rows});
  check_layer<Bf16>(130, 588, {.rows = 17, .x_stride = 592});
  check_layer<F16>(127, 200, {.rows = 9, .bias = false});
  check_layer<F16>(65, 63, {.rows = 70});  // rows of x at odd addresses
  check_layer<Bf16>(1, 8, {.rows = 3});
}

TEST("the large prefill tile") { check_layer<Bf16>(128 * 67 + 6, 128, {.rows = 150, .residual = true}); }

TEST("decode from one row on, through every tile and split") {
  for (const int64_t rows : {1, 8, 9, 33}) check_layer<Bf16>(96, 320, {.rows = rows, .phase = Phase::kDecode});
  check_layer<F16>(65, 63, {.rows = 2, .phase = Phase::kDecode});
  const WeightImage split{.data = nullptr, .type = DType::kBF16, .gate_up = false, .out = 200, .in = 64 * 25 - 3};
  CHECK_EQ(decode_splits(split), int64_t{3});
  for (const int64_t rows : {1, 20}) check_layer<Bf16>(200, 64 * 25 - 3, {.rows = rows, .phase = Phase::kDecode, .residual = true, .x_stride = 1600});
}

TEST("a split layer with more rows than one launch holds") {
  check_layer<Bf16>(16, 64 * 16, {.rows = kDecodeSplitRows + 5, .phase = Phase::kDecode, .residual = true});
}

TEST("epilogues") {
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
    for (const Epilogue epilogue : {Epilogue::kNone, Epilogue::kQuickGelu, Epilogue::kGelu, Epilogue::kSwiGlu}) {
      for (const bool residual : {false, true}) {
        check_layer<Bf16>(2 * 43, 72, {.rows = 11, .phase = phase, .epilogue = epilogue, .residual = residual});
        check_layer<F16>(2 * 43, 72, {.rows = 11, .phase = phase, .epilogue = epilogue, .bias = residual, .residual = residual});
      }
    }
  }
  // A split SwiGLU layer.
  check_layer<Bf16>(2 * 24, 64 * 17, {.rows = 3, .phase = Phase::kDecode, .epilogue = Epilogue::kSwiGlu, .bias = false});
}

TEST("logits in float32") {
  for (const int64_t rows : {1, 12}) {
    check_layer<Bf16, float>(333, 136, {.rows = rows, .phase = Phase::kDecode, .bias = false});
    check_layer<F16, float>(64, 64 * 16, {.rows = rows, .phase = Phase::kDecode, .bias = false});
  }
}

template <class T>
int64_t differences(const std::vector<T>& a, const std::vector<T>& b) {
  int64_t different = 0;
  for (size_t i = 0; i < a.size(); ++i) different += a[i].bits != b[i].bits;
  return different;
}

/** A row's bits alone and at several places among others, in launches of other sizes. */
template <class T>
void check_alone(int64_t out, int64_t in, Phase phase, bool gate_up) {
  Layer<T> layer(out, in, gate_up, 99);
  const int64_t columns = layer.image.columns();
  const std::vector<T> row = random_values<T>(layer.random, in, 1.0f);
  for (const LinearFamily family : families()) {
    Options o{.rows = 1, .phase = phase, .epilogue = gate_up ? Epilogue::kSwiGlu : Epilogue::kNone, .family = family};
    const std::vector<T> alone = run<T>(layer, row, {}, o);
    for (const int64_t rows : {2, 13, 40, 70, 130}) {
      std::vector<T> x = random_values<T>(layer.random, rows * in, 1.0f);
      const int64_t at = rows * 3 / 4;
      std::copy(row.begin(), row.end(), x.begin() + at * in);
      o.rows = rows;
      const std::vector<T> y = run<T>(layer, x, {}, o);
      CHECK_EQ(differences(std::vector<T>(y.begin() + at * columns, y.begin() + (at + 1) * columns), alone), int64_t{0});
    }
  }
}

TEST("a row has the same bits alone and among others") {
  check_alone<Bf16>(72, 200, Phase::kPrefill, false);
  check_alone<F16>(48, 64 * 18, Phase::kDecode, false);
  check_alone<Bf16>(64, 72, Phase::kDecode, true);
}

TEST("a row has the same bits in the small and in the large prefill tile of mma") {
  // The second launch has enough rows for the large tile.
  const int64_t out = 128 * 66, in = 64;
  Layer<Bf16> layer(out, in, false, 5);
  const std::vector<Bf16> x = random_values<Bf16>(layer.random, 129 * in, 1.0f);
  const std::vector<Bf16> few(x.begin(), x.begin() + 3 * in);
  const std::vector<Bf16> small = run<Bf16>(layer, few, {}, {.rows = 3});
  const std::vector<Bf16> large = run<Bf16>(layer, x, {}, {.rows = 129});
  CHECK_EQ(differences(small, large), int64_t{0});
}

/** The same layer through every tile of wgmma, all of which must agree with the first, and that with the naive loop. */
template <class T>
void check_sm90_tiles(int64_t out, int64_t in, Options o) {
  if (!device::has_sm90()) return test::skip("the device is not a Hopper");
  Layer<T> layer(out, in, o.epilogue == Epilogue::kSwiGlu, 17);
  const std::vector<T> x = random_values<T>(layer.random, o.rows * in, 1.0f);
  std::vector<T> residual;
  if (o.residual) residual = random_values<T>(layer.random, o.rows * layer.image.columns(), 1.0f);
  o.family = LinearFamily::kWgmma;
  const std::vector<T> expected = run<T>(layer, x, residual, o);
  const bool split = o.phase == Phase::kDecode && decode_splits(layer.image) > 1;
  for (int32_t tile = 0; tile < kSm90LinearTileCount; ++tile) {
    if (split && !sm90_linear_merges(kSm90LinearTiles[tile])) continue;
    o.sm90_tile = tile;
    CHECK_EQ(differences(run<T>(layer, x, residual, o), expected), int64_t{0});
  }
}

TEST("every tile of wgmma gives the same bits") {
  // More pieces than blocks, so that a block walks several; rows and outputs that fill no tile; more steps than slots.
  check_sm90_tiles<Bf16>(300, 64 * 9 + 8, {.rows = 41, .residual = true});
  check_sm90_tiles<F16>(2 * 72, 136, {.rows = 37, .epilogue = Epilogue::kSwiGlu});
  check_sm90_tiles<Bf16>(200, 64 * 24, {.rows = 21, .phase = Phase::kDecode, .residual = true});
  check_sm90_tiles<Bf16>(130, 64, {.rows = 300});
}

TEST("the tile of wgmma follows the shape") {
  const auto tile = [](int64_t out, int64_t in, int64_t rows, Phase phase) {
    const WeightImage weight{.data = nullptr, .type = DType::kBF16, .gate_up = false, .out = out, .in = in};
    return kSm90LinearTiles[sm90_linear_tile(weight, rows, phase == Phase::kDecode ? decode_splits(weight) : 1, 132)];
  };
  for (const int64_t out : {4096, 12288, 22016, 32064}) {
    for (const int64_t rows : {1, 7, 16, 30}) {
      // Decode: one warpgroup, and no wider than the rows need.
      const Sm90LinearTileShape shape = tile(out, 4096, rows, Phase::kDecode);
      CHECK_EQ(shape.warpgroups, 1);
      CHECK_EQ(shape.rows, rows <= 8 ? 8 : rows <= 16 ? 16 : 32);
    }
    // Thousands of rows: the widest.
    const Sm90LinearTileShape wide = tile(out, 4096, 16384, Phase::kPrefill);
    CHECK_EQ(wide.warpgroups, 2);
    CHECK_EQ(wide.rows, 256);
  }
  // After pruning: one tile that fits all rows where there are outputs enough.
  CHECK_EQ(tile(12288, 4096, 132, Phase::kPrefill).rows, 144);
  CHECK_EQ(tile(12288, 4096, 172, Phase::kPrefill).rows, 176);
  CHECK_EQ(tile(12288, 4096, 207, Phase::kPrefill).rows, 208);
}

TEST("launches leave the arrivals as they found them") {
  const std::vector<uint32_t> arrivals = workspace().arrivals.read();
  int64_t left = 0;
  for (const uint32_t count : arrivals) left += count != 0;
  CHECK_EQ(left, int64_t{0});
  workspace().partials.read();  // its fences
}

}  // namespace
}  // namespace himap

TEST_MAIN()
