// From decoded pixels to the square that a vision tower sees: Pillow's bicubic, bit for bit, with its padding or cropping.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace himap {

// kPad: the picture in the middle of a square of background colour, then resized. kCrop: the shorter side resized to
// `side`, then the middle cut out. lib/image/place.ts says where both lie on the picture.
enum class Geometry { kPad, kCrop };

// Largest width or height of a picture, and largest side of the square, in pixels.
constexpr int64_t kMaxImageSide = 65536;
constexpr int64_t kMaxModelSide = 4096;
// A channel's deviation, by which its pixels are divided as float32; lib/checkpoint/preprocessing.ts has the same.
constexpr double kLeastDeviation = 1e-6;
constexpr double kMostDeviation = 1e6;

struct PreprocessParams {
  const uint8_t* pixels;  // [height, width, channels]
  size_t byte_length;     // of `pixels`; must be their product
  int64_t width;
  int64_t height;
  int64_t channels;  // 3, or 4 whose last is ignored
  Geometry geometry;
  int64_t side;
  double mean[3];  // of values in 0..1; the background is int(mean * 255)
  double std[3];
};

struct Preprocessed {
  std::vector<uint8_t> bytes;  // [side, side, 3]
  std::vector<float> pixels;   // [3, side, side], (byte / 255 - mean) / std
};

// Equal to Pillow 13 bit for bit; versions before it resize tall pictures (kCrop, height > 2 * width) in another order, which
// moves values by one. Throws ERR_INVALID_ARG for sizes that contradict each other or are out of range. Memory beyond the
// result: 4 bytes per result byte, about 20 per row and 45 per column of the picture. The padded square never exists.
Preprocessed preprocess(const PreprocessParams& params);

}  // namespace himap
