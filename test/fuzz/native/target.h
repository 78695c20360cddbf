// What every fuzz target shares: libFuzzer's entry, what may be thrown, and a stream of choices made from the input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "native/core/status.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace himap::test {

/** Inputs that a target carried out to the end: a run without any shows nothing. */
inline size_t& accepted() {
  static size_t count = 0;
  return count;
}

/** Runs `work`. True if it threw a typed error with a sentence; any other exception, and a defect of ours, ends the run. */
template <class Work>
bool refuses(const Work& work) {
  try {
    work();
    ++accepted();
    return false;
  } catch (const Error& error) {
    if (error.code != Code::ERR_INTERNAL && error.code != Code::kOk && !error.message.empty()) return true;
    std::fprintf(stderr, "fuzz: %s: %s\n", code_name(error.code), error.what());
    std::abort();
  }
}

/** Reads numbers from the input; zeros once it is used up. */
class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  bool empty() const { return size_ == 0; }
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

  uint8_t byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  /** From 0 to most, of one byte. */
  int64_t up_to(int64_t most) { return byte() % (most + 1); }
  /** One time in 32, unless the input is used up. */
  bool rarely() { return byte() % 32 == 31; }
  uint32_t word() {
    uint32_t value = 0;
    for (int i = 0; i < 4; ++i) value = value << 8 | byte();
    return value;
  }
  /** Any float: NaN, infinities and subnormals too. */
  float any_float() {
    const uint32_t bits = word();
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
  /** `value`, or rarely one at a border of integers. */
  int64_t or_border(int64_t value, int64_t least = INT64_MIN, int64_t most = INT64_MAX) {
    if (!rarely()) return value;
    constexpr int64_t kBorders[] = {0, -1, 1, 2, 31, 32, 33, INT32_MAX, INT64_C(1) << 31, UINT32_MAX, INT32_MIN, 255, 65535, 1 << 20};
    const int64_t border = kBorders[byte() % (sizeof(kBorders) / sizeof(kBorders[0]))];
    return border < least ? least : border > most ? most : border;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

}  // namespace himap::test
