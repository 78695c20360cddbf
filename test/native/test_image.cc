#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "native/core/status.h"
#include "native/image/resize.h"
#include "test/native/check.h"

using namespace himap;

namespace {

constexpr double kMean[3] = {0.48145466, 0.4578275, 0.40821073};
constexpr double kStd[3] = {0.26862954, 0.26130258, 0.27577711};

struct Picture {
  int64_t width, height, channels;
  std::vector<uint8_t> pixels;
};

Picture make_picture(int64_t width, int64_t height, int64_t channels) {
  Picture picture{width, height, channels, std::vector<uint8_t>(static_cast<size_t>(width * height * channels))};
  uint32_t state = static_cast<uint32_t>(width * 977 + height);
  for (uint8_t& value : picture.pixels) value = static_cast<uint8_t>((state = state * 1664525u + 1013904223u) >> 24);
  return picture;
}

PreprocessParams params_of(const Picture& picture, Geometry geometry, int64_t side) {
  return {.pixels = picture.pixels.data(),
          .byte_length = picture.pixels.size(),
          .width = picture.width,
          .height = picture.height,
          .channels = picture.channels,
          .geometry = geometry,
          .side = side,
          .mean = {kMean[0], kMean[1], kMean[2]},
          .std = {kStd[0], kStd[1], kStd[2]}};
}

double cubic(double x) {
  x = std::fabs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? -0.5 * (((x - 5) * x + 8) * x - 4) : 0;
}

// One whole pass along a row of pixels: the obvious way, everything held.
std::vector<uint8_t> pass(const std::vector<uint8_t>& line, int64_t to) {
  const auto from = static_cast<int64_t>(line.size());
  if (from == to) return line;
  const double scale = static_cast<double>(from) / static_cast<double>(to), wide = std::max(scale, 1.0);
  std::vector<uint8_t> out;
  for (int64_t i = 0; i < to; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const auto low = std::max<int64_t>(0, static_cast<int64_t>(center - 2 * wide + 0.5));
    const auto high = std::min<int64_t>(from, static_cast<int64_t>(center + 2 * wide + 0.5));
    double sum = 0;
    for (int64_t x = low; x < high; ++x) sum += cubic((static_cast<double>(x) - center + 0.5) / wide);
    int64_t total = int64_t{1} << 21;
    for (int64_t x = low; x < high; ++x) {
      const double weight = cubic((static_cast<double>(x) - center + 0.5) / wide) / sum * 4194304.0;
      total += static_cast<int64_t>(weight + (weight < 0 ? -0.5 : 0.5)) * line[static_cast<size_t>(x)];
    }
    out.push_back(static_cast<uint8_t>(std::clamp<int64_t>(total >> 22, 0, 255)));
  }
  return out;
}

using Plane = std::vector<std::vector<uint8_t>>;  // [height, width]

Plane resize_columns(const Plane& plane, int64_t height) {
  Plane out(static_cast<size_t>(height), std::vector<uint8_t>(plane[0].size()));
  for (size_t x = 0; x < plane[0].size(); ++x) {
    std::vector<uint8_t> column;
    for (const auto& row : plane) column.push_back(row[x]);
    column = pass(column, height);
    for (size_t y = 0; y < static_cast<size_t>(height); ++y) out[y][x] = column[y];
  }
  return out;
}

Plane resize_rows(Plane plane, int64_t width) {
  for (auto& row : plane) row = pass(row, width);
  return plane;
}

// Pillow 13's order of the passes.
Plane resize_plane(const Plane& plane, int64_t width, int64_t height) {
  const int64_t less_height = static_cast<int64_t>(plane.size()) - height,
                less_width = static_cast<int64_t>(plane[0].size()) - width;
  const bool vertical_first = less_height > 0 && less_height > 2 * less_width;
  return vertical_first ? resize_rows(resize_columns(plane, height), width) : resize_columns(resize_rows(plane, width), height);
}

std::vector<uint8_t> naive(const Picture& picture, Geometry geometry, int64_t side) {
  const int64_t longer = std::max(picture.width, picture.height), shorter = std::min(picture.width, picture.height);
  std::vector<uint8_t> out(static_cast<size_t>(side * side * 3));
  for (int64_t c = 0; c < 3; ++c) {
    const bool pad = geometry == Geometry::kPad;
    const int64_t width = pad ? longer : picture.width, height = pad ? longer : picture.height;
    const int64_t left = (width - picture.width) / 2, top = (height - picture.height) / 2;
    Plane plane(static_cast<size_t>(height),
                std::vector<uint8_t>(static_cast<size_t>(width), static_cast<uint8_t>(kMean[c] * 255)));
    for (int64_t y = 0; y < picture.height; ++y) {
      for (int64_t x = 0; x < picture.width; ++x) {
        plane[static_cast<size_t>(y + top)][static_cast<size_t>(x + left)] =
            picture.pixels[static_cast<size_t>((y * picture.width + x) * picture.channels + c)];
      }
    }
    const int64_t to_width = pad ? side : side * width / shorter, to_height = pad ? side : side * height / shorter;
    const Plane resized = resize_plane(plane, to_width, to_height);
    const int64_t cut_left = (to_width - side) / 2, cut_top = (to_height - side) / 2;
    for (int64_t y = 0; y < side; ++y) {
      for (int64_t x = 0; x < side; ++x) {
        out[static_cast<size_t>((y * side + x) * 3 + c)] =
            resized[static_cast<size_t>(y + cut_top)][static_cast<size_t>(x + cut_left)];
      }
    }
  }
  return out;
}

void compare(int64_t width, int64_t height, int64_t channels, int64_t side) {
  const Picture picture = make_picture(width, height, channels);
  for (Geometry geometry : {Geometry::kPad, Geometry::kCrop}) {
    if (preprocess(params_of(picture, geometry, side)).bytes == naive(picture, geometry, side)) continue;
    std::printf("  %lldx%lldx%lld to %lld, %s\n", static_cast<long long>(width), static_cast<long long>(height),
                static_cast<long long>(channels), static_cast<long long>(side), geometry == Geometry::kPad ? "pad" : "crop");
    CHECK(!"equal to the naive resize");
  }
}

}  // namespace

TEST("resize equals the obvious double loop for every size from 1x1 to 40x40") {
  for (int64_t width = 1; width <= 40; ++width) {
    for (int64_t height = 1; height <= 40; ++height) compare(width, height, 3, 28);
  }
}

TEST("resize equals the obvious double loop at larger and unequal sizes") {
  for (int64_t side : {1, 2, 14, 56, 112}) {
    compare(1, 700, 3, side);
    compare(700, 1, 4, side);
    compare(333, 47, 4, side);
    compare(112, 56, 3, side);
    compare(56, 57, 3, side);
    compare(401, 399, 3, side);
    compare(130, 401, 3, side);
    compare(401, 130, 4, side);
    compare(113, 227, 4, side);
    compare(112, 300, 3, side);
  }
}

TEST("the longest pictures need little memory and keep their background") {
  for (bool tall : {false, true}) {
    const Picture picture = make_picture(tall ? 1 : kMaxImageSide, tall ? kMaxImageSide : 1, 3);
    const Preprocessed padded = preprocess(params_of(picture, Geometry::kPad, 28));
    for (int c = 0; c < 3; ++c) CHECK_EQ(padded.bytes[static_cast<size_t>(c)], static_cast<uint8_t>(kMean[c] * 255));
    CHECK_EQ(preprocess(params_of(picture, Geometry::kCrop, 28)).bytes.size(), size_t{28 * 28 * 3});
  }
}

TEST("normalised values are (byte / 255 - mean) / std, plane by plane") {
  const Picture picture = make_picture(50, 30, 3);
  const Preprocessed result = preprocess(params_of(picture, Geometry::kCrop, 42));
  for (size_t i = 0; i < 42 * 42; ++i) {
    for (size_t c = 0; c < 3; ++c) {
      const double expected = (result.bytes[i * 3 + c] / 255.0 - kMean[c]) / kStd[c];
      CHECK(std::fabs(result.pixels[c * 42 * 42 + i] - expected) < 1e-6);
    }
  }
}

TEST("sizes out of range or at odds with the bytes are refused") {
  const Picture picture = make_picture(8, 8, 3);
  const auto with = [&](auto change) {
    PreprocessParams params = params_of(picture, Geometry::kPad, 28);
    change(params);
    CHECK_FAILS(preprocess(params), Code::ERR_INVALID_ARG);
  };
  with([](PreprocessParams& p) { p.width = 0; });
  with([](PreprocessParams& p) { p.height = -1; });
  with([](PreprocessParams& p) { p.width = kMaxImageSide + 1; });
  with([](PreprocessParams& p) { p.width = INT64_MAX; });
  with([](PreprocessParams& p) { p.width = 9; });
  with([](PreprocessParams& p) { p.byte_length = 191; });
  with([](PreprocessParams& p) { p.channels = 2; });
  with([](PreprocessParams& p) { p.channels = 4; });
  with([](PreprocessParams& p) { p.side = 0; });
  with([](PreprocessParams& p) { p.side = kMaxModelSide + 1; });
  with([](PreprocessParams& p) { p.mean[1] = 1.5; });
  with([](PreprocessParams& p) { p.mean[1] = std::nan(""); });
  with([](PreprocessParams& p) { p.std[2] = 0; });
  with([](PreprocessParams& p) { p.std[2] = std::nan(""); });
}

TEST_MAIN()
