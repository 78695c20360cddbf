#include "kernels/simt/twins.h"

namespace himap::simt {
namespace {

/** `source` gives the lane that each lane reads, from its own number and its argument. */
template <class Source>
void shuffle_by(void* const* lanes, Source source) {
  for (int32_t lane = 0; lane < 32; ++lane) {
    auto& to = *static_cast<Shuffle*>(lanes[lane]);
    const int32_t from = source(lane, to.argument);
    to.result = static_cast<Shuffle*>(lanes[from >= 0 && from < 32 ? from : lane])->value;
  }
}

uint16_t half_of(uint32_t word, int32_t half) { return static_cast<uint16_t>(word >> (16 * half)); }

}  // namespace

void warp_nothing(void* const*) {}

void warp_shuffle(void* const* lanes) {
  shuffle_by(lanes, [](int32_t, int32_t from) { return from & 31; });
}

void warp_shuffle_xor(void* const* lanes) {
  shuffle_by(lanes, [](int32_t lane, int32_t distance) { return lane ^ distance; });
}

void warp_shuffle_up(void* const* lanes) {
  shuffle_by(lanes, [](int32_t lane, int32_t distance) { return lane - distance; });
}

void warp_shuffle_down(void* const* lanes) {
  shuffle_by(lanes, [](int32_t lane, int32_t distance) { return lane + distance; });
}

void warp_ballot(void* const* lanes) {
  uint32_t bits = 0;
  for (int32_t lane = 0; lane < 32; ++lane) bits |= static_cast<Shuffle*>(lanes[lane])->value << lane;
  for (int32_t lane = 0; lane < 32; ++lane) static_cast<Shuffle*>(lanes[lane])->result = bits;
}

// Fragments: lane l holds, with g = l / 4 and t = l % 4, in half h of register r:
//   a[g + 8 (r & 1)][2 t + h + 8 (r >> 1)]   b[2 t + h + 8 r][g]   d[g + 8 (r >> 1)][2 t + (r & 1)]
template <class T>
void warp_mma_m16n8k16(void* const* lanes) {
  float a[16][16], b[16][8], d[16][8];
  for (int32_t lane = 0; lane < 32; ++lane) {
    const auto& from = *static_cast<const Mma*>(lanes[lane]);
    const int32_t g = lane / 4, t = lane % 4;
    for (int32_t h = 0; h < 2; ++h) {
      for (int32_t r = 0; r < 4; ++r) a[g + 8 * (r & 1)][2 * t + h + 8 * (r >> 1)] = to_float(T{half_of(from.a[r], h)});
      for (int32_t r = 0; r < 2; ++r) b[2 * t + h + 8 * r][g] = to_float(T{half_of(from.b[r], h)});
    }
    for (int32_t r = 0; r < 4; ++r) d[g + 8 * (r >> 1)][2 * t + (r & 1)] = from.d[r];
  }
  for (int32_t i = 0; i < 16; ++i) {
    for (int32_t k = 0; k < 16; ++k) {
      for (int32_t j = 0; j < 8; ++j) d[i][j] += a[i][k] * b[k][j];
    }
  }
  for (int32_t lane = 0; lane < 32; ++lane) {
    const auto& to = *static_cast<const Mma*>(lanes[lane]);
    for (int32_t r = 0; r < 4; ++r) to.d[r] = d[lane / 4 + 8 * (r >> 1)][2 * (lane % 4) + (r & 1)];
  }
}

template void warp_mma_m16n8k16<Bf16>(void* const* lanes);
template void warp_mma_m16n8k16<F16>(void* const* lanes);

void warp_load_matrix_x4(void* const* lanes) {
  for (int32_t lane = 0; lane < 32; ++lane) {
    const auto& to = *static_cast<const LoadMatrix*>(lanes[lane]);
    for (int32_t i = 0; i < 4; ++i) to.r[i] = static_cast<const LoadMatrix*>(lanes[8 * i + lane / 4])->row.word[lane % 4];
  }
}

void warp_load_matrix_x4_trans(void* const* lanes) {
  // Element (row, column) of tile i.
  const auto element = [lanes](int32_t i, int32_t row, int32_t column) -> uint32_t {
    return half_of(static_cast<const LoadMatrix*>(lanes[8 * i + row])->row.word[column / 2], column % 2);
  };
  for (int32_t lane = 0; lane < 32; ++lane) {
    const auto& to = *static_cast<const LoadMatrix*>(lanes[lane]);
    const int32_t column = lane / 4, row = 2 * (lane % 4);
    for (int32_t i = 0; i < 4; ++i) to.r[i] = element(i, row, column) | element(i, row + 1, column) << 16;
  }
}

void check_shared(const void* address, int32_t bytes, device::Place place) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  const auto base = reinterpret_cast<uintptr_t>(current->shared);
  if (at % static_cast<uintptr_t>(bytes) != 0) fail("a shared memory address is not aligned to the size of the access", place);
  if (at < base || at + static_cast<uintptr_t>(bytes) > base + current->shared_bytes) {
    fail("an address is not in the block's shared memory", place);
  }
}

}  // namespace himap::simt
