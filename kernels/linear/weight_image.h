// A weight as the card streams it: repacked once at load, padded, in tiles that lie in memory as shared memory wants
// them.
//
// The image is (out tiles, in tiles) tiles of kImageRows x kImageColumns 16-bit values, 16 KiB each and contiguous, so a
// block that walks down `in` reads memory in order and no size is awkward: missing rows and columns are zero. A tile's
// row is 128 bytes, eight chunks of 16; chunk c of row r lies at place c ^ (r % 8), so that eight rows' chunks c meet
// eight different groups of banks (ldmatrix), which is also the 128-byte swizzle of wgmma and TMA.
//
// Rows are permuted within groups of 16, the height of one mma: rows g and g + 8 of a group are what one lane gets.
//   stacked   rows g, g + 8 hold outputs 2 g, 2 g + 1: a lane writes two neighbours
//   gate_up   rows g, g + 8 hold gate and up of output g: SwiGLU needs no other lane
#pragma once

#include "kernels/float16.h"
#include "kernels/types.h"

namespace himap {

constexpr int32_t kImageRows = 128;
constexpr int32_t kImageColumns = 64;
constexpr int32_t kImageRowBytes = kImageColumns * 2;
constexpr int32_t kImageTileBytes = kImageRows * kImageRowBytes;

struct WeightImage {
  const void* data;  // bytes() bytes, 16-byte aligned
  DType type;        // kF16 or kBF16
  bool gate_up;
  int64_t out;       // rows of all parts
  int64_t in;

  HIMAP_HOST_DEVICE constexpr int64_t columns() const { return gate_up ? out / 2 : out; }  // of y
  HIMAP_HOST_DEVICE constexpr int64_t out_tiles() const {
    // Gate and up are padded together, to whole groups of eight outputs.
    return ((gate_up ? (columns() + 7) / 8 * 16 : out) + kImageRows - 1) / kImageRows;
  }
  HIMAP_HOST_DEVICE constexpr int64_t in_tiles() const { return (in + kImageColumns - 1) / kImageColumns; }
  HIMAP_HOST_DEVICE constexpr int64_t bytes() const { return out_tiles() * in_tiles() * kImageTileBytes; }

  /** The image's row that holds a row of the parts as stacked; gate comes first. */
  HIMAP_HOST_DEVICE constexpr int64_t image_row(int64_t row) const {
    if (!gate_up) return row / 16 * 16 + row % 2 * 8 + row % 16 / 2;
    const int64_t up = row >= columns() ? 1 : 0, output = row - up * columns();
    return output / 8 * 16 + up * 8 + output % 8;
  }

  /** Byte offset of eight columns from `column` (a multiple of 8) of a row of the image. */
  HIMAP_HOST_DEVICE constexpr int64_t chunk_offset(int64_t image_row, int64_t column) const {
    const int64_t tile = image_row / kImageRows * in_tiles() + column / kImageColumns;
    const int64_t row = image_row % kImageRows, chunk = column % kImageColumns / 8;
    return tile * kImageTileBytes + row * kImageRowBytes + ((chunk ^ (row & 7)) << 4);
  }
};

/** One part of a weight on its way into an image that was zeroed before. */
struct RepackParams {
  WeightImage image;   // its data is written
  const void* part;    // (rows, image.in) of `type`, on the device that runs the repack
  DType type;
  int64_t first_row;   // of the part among the stacked rows
  int64_t rows;
};

/** Writes eight columns of one row of the part, rounded to the image's type; the unit of both repacks. */
HIMAP_HOST_DEVICE inline void repack_chunk(const RepackParams& p, int64_t row, int64_t column) {
  const int64_t at = p.image.chunk_offset(p.image.image_row(p.first_row + row), column);
  auto* to = reinterpret_cast<uint16_t*>(static_cast<unsigned char*>(const_cast<void*>(p.image.data)) + at);
  for (int64_t i = 0; i < 8; ++i) {
    uint16_t bits = 0;
    if (column + i < p.image.in) {
      const int64_t index = row * p.image.in + column + i;
      if (p.type == p.image.type) {
        bits = static_cast<const uint16_t*>(p.part)[index];
      } else {
        const float value = p.type == DType::kF32   ? static_cast<const float*>(p.part)[index]
                            : p.type == DType::kF16 ? to_float(static_cast<const F16*>(p.part)[index])
                                                    : to_float(static_cast<const Bf16*>(p.part)[index]);
        bits = p.image.type == DType::kF16 ? round_to<F16>(value).bits : round_to<Bf16>(value).bits;
      }
    }
    to[i] = bits;
  }
}

/** The repack on the host, for tests and for whoever uploads finished images. */
inline void repack_on_host(const RepackParams& p) {
  for (int64_t row = 0; row < p.rows; ++row) {
    for (int64_t column = 0; column < p.image.in; column += 8) repack_chunk(p, row, column);
  }
}

}  // namespace himap
