#include "native/image/resize.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "native/core/number.h"
#include "native/core/status.h"

// The loops over lanes are plain C++ that the compiler vectorises; on x86-64 it does so twice, for the machine at hand.
#if defined(__x86_64__) && defined(__GNUC__)
#define HIMAP_IMAGE_AVX2 1
#endif

namespace himap {
namespace {

constexpr int kFractionBits = 22;  // of a fixed-point weight
constexpr int32_t kHalf = 1 << (kFractionBits - 1);
constexpr int kBlockRows = 8;  // source rows that go through the horizontal pass together
constexpr int kLanes = kBlockRows * 3;

// One dimension of the resize: for each of `side` results, the source pixels that it weighs. A pass over an unchanged
// dimension needs no case of its own: its weights are 1 and 0.
struct Axis {
  std::vector<int32_t> first;    // [side] first source pixel
  std::vector<int32_t> count;    // [side]
  std::vector<size_t> offset;    // [side] into `weights`
  std::vector<int32_t> outside;  // [side] sum of the weights that fall on background
  std::vector<int32_t> weights;
};

double cubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

// A picture of `length` pixels at `start` of a canvas of `canvas`, which becomes `resized`, of which `side` results from
// `window` on are wanted. The order of the double operations is Pillow's: another one moves last bits.
Axis make_axis(int64_t length, int64_t canvas, int64_t start, int64_t resized, int64_t window, int64_t side) {
  Axis axis;
  const double scale = static_cast<double>(canvas) / static_cast<double>(resized);
  const double filter_scale = std::max(scale, 1.0);
  const double support = 2.0 * filter_scale;
  const double inverse = 1.0 / filter_scale;
  std::vector<double> taps;
  for (int64_t i = 0; i < side; ++i) {
    const double center = (static_cast<double>(window + i) + 0.5) * scale;
    const int64_t low = std::max<int64_t>(0, static_cast<int64_t>(center - support + 0.5));
    const int64_t high = std::min<int64_t>(canvas, static_cast<int64_t>(center + support + 0.5));
    taps.clear();
    double sum = 0.0;
    for (int64_t x = 0; x < high - low; ++x) {
      taps.push_back(cubic((static_cast<double>(x + low) - center + 0.5) * inverse));
      sum += taps.back();
    }
    const int64_t begin = std::clamp(start, low, high);
    const int64_t end = std::clamp(start + length, begin, high);
    axis.first.push_back(begin < end ? static_cast<int32_t>(begin - start) : 0);
    axis.count.push_back(static_cast<int32_t>(end - begin));
    axis.offset.push_back(axis.weights.size());
    int32_t outside = 0;
    for (int64_t x = low; x < high; ++x) {
      const double weight = (sum != 0.0 ? taps[x - low] / sum : taps[x - low]) * (1 << kFractionBits);
      const auto fixed = static_cast<int32_t>(weight < 0 ? weight - 0.5 : weight + 0.5);
      if (x >= begin && x < end) {
        axis.weights.push_back(fixed);
      } else {
        outside += fixed;
      }
    }
    axis.outside.push_back(outside);
  }
  return axis;
}

inline uint8_t to_byte(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255)); }

// lanes[l] += sum over taps of weights[t] * block[t][l]; block: [taps, kLanes]
inline __attribute__((always_inline)) void weigh_taps_body(int32_t* lanes, const uint8_t* block, const int32_t* weights,
                                                           int32_t taps) {
  int32_t sums[kLanes];
  for (int l = 0; l < kLanes; ++l) sums[l] = lanes[l];
  for (int32_t t = 0; t < taps; ++t) {
    for (int l = 0; l < kLanes; ++l) sums[l] += weights[t] * block[t * kLanes + l];
  }
  for (int l = 0; l < kLanes; ++l) lanes[l] = sums[l];
}

// sums[i] += weight * row[i]
inline __attribute__((always_inline)) void add_row_body(int32_t* __restrict sums, const uint8_t* __restrict row, int32_t weight,
                                                        int64_t n) {
  for (int64_t i = 0; i < n; ++i) sums[i] += weight * row[i];
}

struct Loops {
  void (*weigh_taps)(int32_t*, const uint8_t*, const int32_t*, int32_t);
  void (*add_row)(int32_t*, const uint8_t*, int32_t, int64_t);
};

void weigh_taps_portable(int32_t* lanes, const uint8_t* block, const int32_t* weights, int32_t taps) {
  weigh_taps_body(lanes, block, weights, taps);
}
void add_row_portable(int32_t* sums, const uint8_t* row, int32_t weight, int64_t n) { add_row_body(sums, row, weight, n); }

#ifdef HIMAP_IMAGE_AVX2
__attribute__((target("avx2"))) void weigh_taps_avx2(int32_t* lanes, const uint8_t* block, const int32_t* weights, int32_t taps) {
  weigh_taps_body(lanes, block, weights, taps);
}
__attribute__((target("avx2"))) void add_row_avx2(int32_t* sums, const uint8_t* row, int32_t weight, int64_t n) {
  add_row_body(sums, row, weight, n);
}
#endif

Loops choose_loops() {
#ifdef HIMAP_IMAGE_AVX2
  if (__builtin_cpu_supports("avx2")) return {weigh_taps_avx2, add_row_avx2};
#endif
  return {weigh_taps_portable, add_row_portable};
}

// Where the picture lies on the canvas that is resized, and in which order.
struct Layout {
  Axis columns;
  Axis rows;
  uint8_t background[3] = {0, 0, 0};
  bool vertical_first = false;
};

Layout make_layout(const PreprocessParams& p) {
  Layout layout;
  if (p.geometry == Geometry::kPad) {
    const int64_t canvas = std::max(p.width, p.height);
    layout.columns = make_axis(p.width, canvas, (canvas - p.width) / 2, p.side, 0, p.side);
    layout.rows = make_axis(p.height, canvas, (canvas - p.height) / 2, p.side, 0, p.side);
    for (int c = 0; c < 3; ++c) layout.background[c] = static_cast<uint8_t>(p.mean[c] * 255);
  } else {
    const int64_t shorter = std::min(p.width, p.height);
    const int64_t width = p.side * p.width / shorter;
    const int64_t height = p.side * p.height / shorter;
    layout.columns = make_axis(p.width, p.width, 0, width, (width - p.side) / 2, p.side);
    layout.rows = make_axis(p.height, p.height, 0, height, (height - p.side) / 2, p.side);
    // Pillow 13: the vertical pass comes first when it takes away more than twice what the horizontal one does. Between
    // the passes the picture is rounded to bytes, so the order shows. Older versions never did so; on the square that
    // padding makes it cannot happen.
    layout.vertical_first = p.height > height && p.height - height > (p.width - width) * 2;
  }
  return layout;
}

// The horizontal pass over kBlockRows rows together.
class RowBlock {
 public:
  RowBlock(const PreprocessParams& p, const Layout& layout, const Loops& loops) : p_(p), layout_(layout), loops_(loops) {
    const Axis& columns = layout.columns;
    first_ = columns.first[0];
    for (int64_t i = 0; i < p.side; ++i) {
      if (columns.count[i] == 0) continue;
      first_ = std::min(first_, columns.first[i]);
      end_ = std::max(end_, columns.first[i] + columns.count[i]);
    }
    pixels_.resize(static_cast<size_t>(end_ - first_) * kLanes);
    bytes_.resize(static_cast<size_t>(kBlockRows * p.side * 3));
  }

  // First source column that is used, and the one after the last.
  int32_t first() const { return first_; }
  int32_t end() const { return end_; }

  // `row` begins at the first used column: [end - first, channels].
  void load(int lane, const uint8_t* row) {
    uint8_t* target = pixels_.data() + static_cast<size_t>(lane) * 3;
    for (int32_t x = first_; x < end_; ++x, row += p_.channels, target += kLanes) {
      target[0] = row[0];
      target[1] = row[1];
      target[2] = row[2];
    }
  }

  void run() {
    const Axis& columns = layout_.columns;
    for (int64_t i = 0; i < p_.side; ++i) {
      int32_t lanes[kLanes];
      for (int l = 0; l < kLanes; ++l) lanes[l] = kHalf + columns.outside[i] * layout_.background[l % 3];
      const uint8_t* taps =
          pixels_.data() + (columns.count[i] == 0 ? 0 : static_cast<size_t>(columns.first[i] - first_) * kLanes);
      loops_.weigh_taps(lanes, taps, columns.weights.data() + columns.offset[i], columns.count[i]);
      for (int r = 0; r < kBlockRows; ++r) {
        for (int c = 0; c < 3; ++c) bytes_[(r * p_.side + i) * 3 + c] = to_byte(lanes[r * 3 + c]);
      }
    }
  }

  // What became of a lane, [side, 3].
  const uint8_t* row(int lane) const { return bytes_.data() + lane * p_.side * 3; }

 private:
  const PreprocessParams& p_;
  const Layout& layout_;
  const Loops& loops_;
  int32_t first_ = 0;
  int32_t end_ = 0;
  std::vector<uint8_t> pixels_;  // [end - first, kBlockRows, 3]
  std::vector<uint8_t> bytes_;   // [kBlockRows, side, 3]
};

const uint8_t* source_row(const PreprocessParams& p, int64_t y, int32_t first) {
  return p.pixels + (y * p.width + first) * p.channels;
}

// Source rows are read in order, resized, and added to the sums of the result rows that weigh them: neither pass keeps a
// picture of its own.
std::vector<uint8_t> resample_horizontal_first(const PreprocessParams& p, const Layout& layout, const Loops& loops) {
  const Axis& rows = layout.rows;
  const int64_t row_bytes = p.side * 3;
  RowBlock block(p, layout, loops);

  std::vector<int32_t> sums(static_cast<size_t>(p.side * row_bytes), kHalf);  // [side, side, 3]
  std::vector<uint8_t> background(static_cast<size_t>((block.end() - block.first()) * p.channels));
  for (size_t i = 0; i < background.size(); ++i) background[i] = i % p.channels < 3 ? layout.background[i % p.channels] : 0;
  block.load(0, background.data());
  block.run();
  int32_t first_row = static_cast<int32_t>(p.height);
  int32_t end_row = 0;
  for (int64_t o = 0; o < p.side; ++o) {
    if (rows.outside[o] != 0) loops.add_row(&sums[o * row_bytes], block.row(0), rows.outside[o], row_bytes);
    if (rows.count[o] == 0) continue;
    first_row = std::min(first_row, rows.first[o]);
    end_row = std::max(end_row, rows.first[o] + rows.count[o]);
  }

  int64_t oldest = 0;  // first result row that may still need source rows
  for (int32_t y = first_row; y < end_row; y += kBlockRows) {
    const int32_t height = std::min(kBlockRows, end_row - y);
    for (int32_t r = 0; r < height; ++r) block.load(r, source_row(p, y + r, block.first()));
    block.run();
    for (int32_t r = 0; r < height; ++r) {
      while (oldest < p.side && rows.first[oldest] + rows.count[oldest] <= y + r) ++oldest;
      for (int64_t o = oldest; o < p.side && rows.first[o] <= y + r; ++o) {
        const int32_t tap = y + r - rows.first[o];
        if (tap < rows.count[o]) loops.add_row(&sums[o * row_bytes], block.row(r), rows.weights[rows.offset[o] + tap], row_bytes);
      }
    }
  }

  std::vector<uint8_t> bytes(sums.size());
  for (size_t i = 0; i < sums.size(); ++i) bytes[i] = to_byte(sums[i]);
  return bytes;
}

// Each result row is summed up over the whole width, and then resized. Never on a padded square.
std::vector<uint8_t> resample_vertical_first(const PreprocessParams& p, const Layout& layout, const Loops& loops) {
  const Axis& rows = layout.rows;
  RowBlock block(p, layout, loops);
  const int64_t used = static_cast<int64_t>(block.end() - block.first()) * p.channels;
  std::vector<int32_t> sums(static_cast<size_t>(used));
  std::vector<uint8_t> line(static_cast<size_t>(used));
  std::vector<uint8_t> bytes(static_cast<size_t>(p.side * p.side * 3));
  for (int64_t first = 0; first < p.side; first += kBlockRows) {
    const int height = static_cast<int>(std::min<int64_t>(kBlockRows, p.side - first));
    for (int r = 0; r < height; ++r) {
      const int64_t o = first + r;
      std::fill(sums.begin(), sums.end(), kHalf);
      for (int32_t t = 0; t < rows.count[o]; ++t) {
        loops.add_row(sums.data(), source_row(p, rows.first[o] + t, block.first()), rows.weights[rows.offset[o] + t], used);
      }
      for (int64_t i = 0; i < used; ++i) line[i] = to_byte(sums[i]);
      block.load(r, line.data());
    }
    block.run();
    std::copy_n(block.row(0), height * p.side * 3, bytes.begin() + first * p.side * 3);
  }
  return bytes;
}

void check(const PreprocessParams& p) {
  const auto in_range = [](const char* name, int64_t value, int64_t high) {
    require(value >= 1 && value <= high, Code::ERR_INVALID_ARG,
            std::string("[preprocess] expected 1 to ") + std::to_string(high) + " for " + name + " but received " +
                std::to_string(value));
  };
  in_range("width", p.width, kMaxImageSide);
  in_range("height", p.height, kMaxImageSide);
  in_range("side", p.side, kMaxModelSide);
  require(p.channels == 3 || p.channels == 4, Code::ERR_INVALID_ARG,
          "[preprocess] expected 3 or 4 for channels but received " + std::to_string(p.channels));
  const auto bytes = static_cast<uint64_t>(p.width) * static_cast<uint64_t>(p.height) * static_cast<uint64_t>(p.channels);
  require(p.byte_length == bytes, Code::ERR_INVALID_ARG,
          "[preprocess] expected width * height * channels = " + std::to_string(bytes) + " bytes for pixels but received " +
              std::to_string(p.byte_length));
  for (int c = 0; c < 3; ++c) {
    require(p.mean[c] >= 0 && p.mean[c] <= 1, Code::ERR_INVALID_ARG,
            "[preprocess] expected 0 to 1 for mean but received " + number_text(p.mean[c]));
    require(p.std[c] >= kLeastDeviation && p.std[c] <= kMostDeviation, Code::ERR_INVALID_ARG,
            "[preprocess] expected " + number_text(kLeastDeviation) + " to " + number_text(kMostDeviation) + " for std but received " +
                number_text(p.std[c]));
  }
}

}  // namespace

Preprocessed preprocess(const PreprocessParams& p) {
  check(p);
  const Layout layout = make_layout(p);
  const Loops loops = choose_loops();
  Preprocessed result{
      layout.vertical_first ? resample_vertical_first(p, layout, loops) : resample_horizontal_first(p, layout, loops), {}};
  const auto area = static_cast<size_t>(p.side * p.side);
  result.pixels.resize(area * 3);
  for (int c = 0; c < 3; ++c) {
    float normalised[256];
    for (int v = 0; v < 256; ++v)
      normalised[v] = (static_cast<float>(v) / 255.0f - static_cast<float>(p.mean[c])) / static_cast<float>(p.std[c]);
    float* plane = &result.pixels[area * c];
    for (size_t i = 0; i < area; ++i) plane[i] = normalised[result.bytes[i * 3 + c]];
  }
  return result;
}

}  // namespace himap
