// Kernels that treat each row by itself: norms, embedding, gather, rotation with the KV write, patches.
#include "kernels/embed/launch_embed.h"
#include "kernels/gather/launch_gather.h"
#include "kernels/norm/launch_norm.h"
#include "kernels/patch_embed/launch_patch_embed.h"
#include "kernels/rope_kv/launch_rope_kv.h"
#include "test/native/kernel_fixture.h"

namespace himap {
namespace {

using test::Input;
using test::Output;
using test::Random;
using test::random_values;

template <class T>
void check_norm(int64_t rows, int64_t width, bool layer_norm, bool in_place) {
  Random random(static_cast<uint64_t>(width));
  std::vector<T> x = random_values<T>(random, rows * width, 3);
  for (T& value : x) value = round_to<T>(to_float(value) + (layer_norm ? 20.0f : 0.0f));  // a mean that squares would drown in
  const std::vector<float> weight = random_values<float>(random, width, 1), bias = random_values<float>(random, width, 1);
  const Input<T> device_x(x);
  const Input<float> device_weight(weight), device_bias(bias);
  Output<T> y = in_place ? Output<T>(x) : Output<T>(x.size());
  constexpr float kEps = 1e-5f;
  test::launched(launch_norm(kDTypeOf<T>, {.x = in_place ? y.get() : device_x.get(), .weight = device_weight.get(),
                                           .maybe_bias = layer_norm ? device_bias.get() : nullptr, .y = y.get(), .rows = rows, .width = width, .eps = kEps},
                             nullptr));
  std::vector<double> right, naive;
  for (int64_t r = 0; r < rows; ++r) {
    const auto at = [&](int64_t i) { return static_cast<double>(to_float(x[static_cast<size_t>(r * width + i)])); };
    double mean = 0, squares = 0;
    for (int64_t i = 0; layer_norm && i < width; ++i) mean += at(i) / static_cast<double>(width);
    for (int64_t i = 0; i < width; ++i) squares += (at(i) - mean) * (at(i) - mean);
    for (int64_t i = 0; i < width; ++i) {
      const double own = (at(i) - mean) / std::sqrt(squares / static_cast<double>(width) + static_cast<double>(kEps)) *
                             static_cast<double>(weight[static_cast<size_t>(i)]) +
                         (layer_norm ? static_cast<double>(bias[static_cast<size_t>(i)]) : 0.0);
      right.push_back(own);
      naive.push_back(static_cast<double>(to_float(round_to<T>(static_cast<float>(own)))));
    }
  }
  test::check_error("norm of " + std::to_string(width), test::widened(y.read()), right, naive);
}

TEST("norms at awkward widths, in place too") {
  for (const int64_t width : {1, 7, 8, 37, 64, 577, 2056}) {
    check_norm<Bf16>(3, width, false, false);
    check_norm<F16>(2, width, true, width % 2 == 0);
  }
  check_norm<Bf16>(4, 96, false, true);
}

TEST("embedding out of the repacked table, and image tokens") {
  for (const int64_t width : {8, 37, 72, 1032}) {
    Random random(static_cast<uint64_t>(width));
    constexpr int64_t kVocabulary = 50;
    const std::vector<F16> table = random_values<F16>(random, kVocabulary * width, 1), features = random_values<F16>(random, 3 * width, 1);
    WeightImage image{.data = nullptr, .type = DType::kF16, .gate_up = false, .out = kVocabulary, .in = width};
    std::vector<unsigned char> memory(static_cast<size_t>(image.bytes()));
    image.data = memory.data();
    repack_on_host({.image = image, .part = table.data(), .type = DType::kF16, .first_row = 0, .rows = kVocabulary});
    const Input<unsigned char> device_table(memory);
    image.data = device_table.get();
    const std::vector<int32_t> source{0, 49, -1, 17, -3, 17};
    const Input<int32_t> device_source(source);
    const Input<F16> device_features(features);
    Output<F16> y(source.size() * static_cast<size_t>(width));
    test::launched(launch_embed({.source = device_source.get(), .table = nullptr, .maybe_features = device_features.get(), .y = y.get(),
                                 .rows = static_cast<int64_t>(source.size())},
                                image, nullptr));
    const std::vector<F16> got = y.read();
    int32_t different = 0;
    for (size_t r = 0; r < source.size(); ++r) {
      for (int64_t i = 0; i < width; ++i) {
        const F16 expected = source[r] < 0 ? features[static_cast<size_t>((-1 - source[r]) * width + i)] : table[static_cast<size_t>(source[r] * width + i)];
        different += got[r * static_cast<size_t>(width) + static_cast<size_t>(i)].bits != expected.bits;
      }
    }
    CHECK_EQ(different, 0);
  }
}

TEST("gather of several arrays, of any width") {
  Random random(8);
  const std::vector<int32_t> index{4, 0, 4, 2};
  const Input<int32_t> device_index(index);
  const std::vector<int64_t> widths{1, 4, 6, 16, 77, 4096};
  std::vector<std::vector<unsigned char>> in;
  std::vector<std::unique_ptr<Input<unsigned char>>> device_in;
  std::vector<std::unique_ptr<Output<unsigned char>>> out;
  GatherParams params{.index = device_index.get(), .rows = 4, .n = 6, .arrays = {}};
  for (size_t a = 0; a < widths.size(); ++a) {
    for (auto& bytes = in.emplace_back(); bytes.size() < static_cast<size_t>(5 * widths[a]);) bytes.push_back(static_cast<unsigned char>(random.bits()));
    device_in.push_back(std::make_unique<Input<unsigned char>>(in[a]));
    out.push_back(std::make_unique<Output<unsigned char>>(static_cast<size_t>(4 * widths[a])));
    params.arrays[a] = {device_in[a]->get(), out[a]->get(), widths[a]};
  }
  test::launched(launch_gather(params, nullptr));
  for (size_t a = 0; a < widths.size(); ++a) {
    const std::vector<unsigned char> got = out[a]->read();
    for (size_t r = 0; r < index.size(); ++r) {
      CHECK(std::equal(got.begin() + static_cast<int64_t>(r) * widths[a], got.begin() + static_cast<int64_t>(r + 1) * widths[a], in[a].begin() + index[r] * widths[a]));
    }
  }
}

template <class T, class P>
void check_rope(int32_t heads, int32_t kv_heads, int32_t head_dim) {
  Random random(static_cast<uint64_t>(head_dim));
  const KvLayout layout{kDTypeOf<P>, kv_heads, head_dim};
  const int32_t half = head_dim / 2, width = (heads + 2 * kv_heads) * head_dim;
  const std::vector<int32_t> positions{0, 9, 3}, sequence{1, 0, 1}, slot{0, 33, 5}, pages{2, 0, 3, 1};
  const std::vector<T> before = random_values<T>(random, 3 * width, 2);
  std::vector<float> cos, sin;
  for (int32_t p = 0; p < 10; ++p) {
    for (int32_t i = 0; i < half; ++i) {
      cos.push_back(std::cos(static_cast<float>(p) / static_cast<float>(i + 1)));
      sin.push_back(std::sin(static_cast<float>(p) / static_cast<float>(i + 1)));
    }
  }
  const Input<float> device_cos(cos), device_sin(sin);
  const Input<int32_t> device_positions(positions), device_sequence(sequence), device_slot(slot), device_pages(pages);
  Output<T> qkv(before);
  const std::vector<P> empty(static_cast<size_t>(4 * layout.page_elements()), round_to<P>(-7));
  Output<P> pool(empty);
  test::launched(launch_rope_kv(kDTypeOf<T>, {.qkv = qkv.get(), .cos = device_cos.get(), .sin = device_sin.get(), .positions = device_positions.get(),
                                              .sequence = device_sequence.get(), .slot = device_slot.get(), .pages = device_pages.get(), .pool = pool.get(),
                                              .layout = layout, .rows = 3, .blocks = 2, .heads = heads},
                                nullptr));
  const std::vector<T> after = qkv.read();
  std::vector<double> right, naive, got;
  std::vector<P> expected = empty;
  for (int32_t r = 0; r < 3; ++r) {
    const auto row = static_cast<size_t>(r);
    for (int32_t i = 0; i < width; ++i) {
      const int32_t head = i / head_dim, d = i % head_dim;
      const auto at = [&](int32_t to) { return static_cast<double>(to_float(before[row * static_cast<size_t>(width) + static_cast<size_t>(head * head_dim + to)])); };
      double value = at(d);
      if (head < heads + kv_heads) {
        const auto angle = static_cast<size_t>(positions[row] * half + d % half);
        const auto c = static_cast<double>(cos[angle]), s = static_cast<double>(sin[angle]);
        value = d < half ? at(d) * c - at(d + half) * s : at(d) * c + at(d - half) * s;
      }
      right.push_back(value);
      naive.push_back(static_cast<double>(to_float(round_to<T>(static_cast<float>(value)))));
      const T own = after[row * static_cast<size_t>(width) + static_cast<size_t>(i)];
      got.push_back(static_cast<double>(to_float(own)));
      if (head < heads) continue;
      const int32_t page = pages[static_cast<size_t>(sequence[row] * 2 + slot[row] / kPageTokens)], value_or_key = head >= heads + kv_heads;
      expected[static_cast<size_t>(layout.offset(page, value_or_key, (head - heads) % kv_heads, slot[row] % kPageTokens) + d)] = round_to<P>(to_float(own));
    }
  }
  test::check_error("rotation", got, right, naive);
  const std::vector<P> cached = pool.read();
  CHECK(test::widened(cached) == test::widened(expected));
}

TEST("rotation, and keys and values in their pages") {
  check_rope<Bf16, Bf16>(4, 2, 64);
  check_rope<F16, float>(1, 1, 24);
  check_rope<F16, Bf16>(2, 2, 128);
}

template <class T>
void check_patches(int32_t side, int32_t patch, int32_t width, int64_t images) {
  Random random(static_cast<uint64_t>(side));
  const int32_t across = side / patch, patches = across * across, in = 3 * patch * patch;
  const std::vector<float> pixels = random_values<float>(random, images * 3 * side * side, 2), class_row = random_values<float>(random, width, 1),
                           positions = random_values<float>(random, int64_t{1 + patches} * width, 1);
  const std::vector<T> weight = random_values<T>(random, int64_t{width} * in, 0.2f);
  WeightImage image{.data = nullptr, .type = kDTypeOf<T>, .gate_up = false, .out = width, .in = in};
  std::vector<unsigned char> memory(static_cast<size_t>(image.bytes()));
  image.data = memory.data();
  repack_on_host({.image = image, .part = weight.data(), .type = kDTypeOf<T>, .first_row = 0, .rows = width});
  const Input<unsigned char> device_weight(memory);
  image.data = device_weight.get();
  const Input<float> device_pixels(pixels), device_class(class_row), device_positions(positions);
  Output<T> y(static_cast<size_t>(images * (1 + patches) * width));
  const PatchEmbedParams params{.pixels = device_pixels.get(), .weight = nullptr, .class_row = device_class.get(), .position_rows = device_positions.get(),
                                .y = y.get(), .images = images, .side = side, .patch = patch, .width = width};
  Output<T> rows(static_cast<size_t>(images * patches * patch_row_stride(params)));
  Output<float> products(static_cast<size_t>(images * patches * width));
  test::launched(launch_patch_embed(params, image, {rows.get(), products.get()}, nullptr));
  rows.read();
  products.read();
  std::vector<double> right, naive;
  for (int64_t n = 0; n < images; ++n) {
    for (int32_t p = 0; p <= patches; ++p) {
      for (int32_t o = 0; o < width; ++o) {
        double exact = static_cast<double>(class_row[static_cast<size_t>(o)]);
        float simple = class_row[static_cast<size_t>(o)];
        if (p > 0) {
          exact = 0;
          simple = 0;
          const int32_t top = (p - 1) / across * patch, left = (p - 1) % across * patch;
          for (int32_t i = 0; i < in; ++i) {
            const int32_t channel = i / (patch * patch), line = i / patch % patch, column = i % patch;
            const float pixel = pixels[static_cast<size_t>(((n * 3 + channel) * side + top + line) * side + left + column)];
            const float w = to_float(weight[static_cast<size_t>(int64_t{o} * in + i)]);
            exact += static_cast<double>(pixel) * static_cast<double>(w);
            simple += to_float(round_to<T>(pixel)) * w;
          }
        }
        const float position = positions[static_cast<size_t>(p * width + o)];
        right.push_back(exact + static_cast<double>(position));
        naive.push_back(static_cast<double>(to_float(round_to<T>(simple + position))));
      }
    }
  }
  test::check_error("patches", test::widened(y.read()), right, naive);
}

TEST("patches of pictures, class row and positions") {
  check_patches<F16>(28, 14, 24, 2);
  check_patches<Bf16>(9, 3, 37, 1);
}

}  // namespace
}  // namespace himap

TEST_MAIN()
