// What the tests of the CPU backend share: devices of every instruction set that this machine has, fenced outputs,
// storage types by slow and plain arithmetic, and the bound on errors.
//
// The bound: an operation's worst error against float64 is at most twice that of a plain float32 loop over the same
// data, plus one rounding of the largest result (where the plain loop happens to be exact).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "native/backend/cpu/kernels.h"
#include "native/backend/ops.h"
#include "native/core/status.h"
#include "test/native/check.h"

extern "C" const himap::BackendApi* himap_backend();

namespace himap::test {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/** An open device of one instruction set. */
struct Cpu {
  const BackendApi& api = *himap_backend();
  Device* device = nullptr;
  DeviceInfo info{};

  explicit Cpu(const char* set, int32_t threads = 1) {
    setenv("HIMAP_CPU", set, 1);
    const DeviceOptions options{.threads = threads};
    char reason[256] = "";
    if (api.open(&options, &device, &info, reason, sizeof(reason)) != 0) device = nullptr;
    unsetenv("HIMAP_CPU");
  }
  ~Cpu() { api.close(device); }
  Cpu(const Cpu&) = delete;
  Cpu& operator=(const Cpu&) = delete;
};

/** The sets that this machine has. */
inline const std::vector<const char*>& sets() {
  static const std::vector<const char*> usable = [] {
    std::vector<const char*> found;
    for (const char* set : {"portable", "avx2", "avx512"}) {
      if (Cpu(set).device) found.push_back(set);
      else std::printf("NOTE: this machine does not have %s\n", set);
    }
    return found;
  }();
  return usable;
}

inline const CpuKernels& kernels_of(const std::string& set) {
#if defined(__x86_64__)
  if (set == "avx2") return kKernelsAvx2;
  if (set == "avx512") return kKernelsAvx512;
#endif
  (void)set;
  return kKernelsPortable;
}

template <class Fn>
void for_each_cpu(int32_t threads, const Fn& fn) {
  for (const char* set : sets()) {
    Cpu cpu(set, threads);
    fn(cpu);
  }
}

#define CHECK_OK(cpu, call)                                                                                         \
  do {                                                                                                              \
    if ((call) != 0)                                                                                                \
      himap::test::report(__FILE__, __LINE__, std::string(#call " failed: ") + (cpu).api.last_error((cpu).device)); \
  } while (0)

/** The call is refused with this code and a sentence that begins with [where]. */
#define CHECK_REFUSED(cpu, call, expected, where)                                                  \
  do {                                                                                             \
    CHECK_EQ((call), static_cast<int32_t>(expected));                                              \
    CHECK_EQ(std::string((cpu).api.last_error((cpu).device)).rfind("[" where "]", 0), size_t{0});  \
  } while (0)

/** The heads of an attention layer, and the widths of its packed rows. */
struct Heads {
  int32_t heads, kv_heads, head_dim;
  int64_t qkv_width() const { return int64_t{heads + 2 * kv_heads} * head_dim; }
  int64_t y_width() const { return int64_t{heads} * head_dim; }
};

/** Memory with values before and after that no operation may touch. */
template <class T>
class Fenced {
 public:
  explicit Fenced(int64_t n) : values_(static_cast<size_t>(n) + 2 * kFence) {
    for (size_t i = 0; i < values_.size(); ++i) values_[i] = sentinel(i);
  }
  T* data() { return values_.data() + kFence; }
  T& operator[](int64_t i) { return values_[static_cast<size_t>(i) + kFence]; }
  int64_t size() const { return static_cast<int64_t>(values_.size() - 2 * kFence); }
  std::vector<T> take() const { return {values_.begin() + kFence, values_.end() - kFence}; }
  bool intact() const {
    for (size_t i = 0; i < kFence; ++i) {
      const size_t last = values_.size() - 1 - i;
      if (values_[i] != sentinel(i) || values_[last] != sentinel(last)) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kFence = 64;
  static T sentinel(size_t i) { return static_cast<T>(12345 + i % 7); }
  std::vector<T> values_;
};

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  /** In [0, n). */
  int32_t below(int32_t n) { return static_cast<int32_t>(engine_() % static_cast<uint32_t>(n)); }
  float normal() { return static_cast<float>(distribution_(engine_)); }
  std::vector<float> normals(int64_t n, float deviation = 1) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& value : values) value = normal() * deviation;
    return values;
  }

 private:
  std::mt19937 engine_;
  std::normal_distribution<double> distribution_{0, 1};
};

/** A 16-bit float of `exponent_bits`, by its definition. */
inline double decode_half(uint16_t bits, int exponent_bits) {
  const int mantissa_bits = 15 - exponent_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits & 0x7fff) >> mantissa_bits;
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  double value;
  if (exponent == (1 << exponent_bits) - 1) value = mantissa ? std::nan("") : HUGE_VAL;
  else if (exponent == 0) value = std::ldexp(mantissa, 1 - bias - mantissa_bits);
  else value = std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
  return bits & 0x8000 ? -value : value;
}

inline double decode(DType type, const char* bytes) {
  if (type == DType::kF32) {
    float value;
    std::memcpy(&value, bytes, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, bytes, 2);
  return decode_half(bits, type == DType::kF16 ? 5 : 8);
}

/** The nearest 16-bit float, ties to even, found by bisection over the bits. */
inline uint16_t encode_half(float value, int exponent_bits) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(static_cast<double>(value));
  const uint16_t infinity = static_cast<uint16_t>(((1 << exponent_bits) - 1) << (15 - exponent_bits));
  if (std::isnan(value)) return static_cast<uint16_t>(sign | infinity | 1 << (14 - exponent_bits));
  uint16_t low = 0;  // the largest that is not above
  for (int bit = 14; bit >= 0; --bit) {
    const auto next = static_cast<uint16_t>(low | 1 << bit);
    if (next < infinity && decode_half(next, exponent_bits) <= magnitude) low = next;
  }
  const double below = decode_half(low, exponent_bits);
  const uint16_t high = static_cast<uint16_t>(low + 1);
  // Infinity rounds as the number that would stand there.
  const double above = high < infinity ? decode_half(high, exponent_bits)
                                       : 2 * below - decode_half(static_cast<uint16_t>(low - 1), exponent_bits);
  const double down = magnitude - below;
  const double up = above - magnitude;
  return static_cast<uint16_t>(sign | (std::isinf(value) || up < down || (up == down && (low & 1)) ? high : low));
}

inline std::vector<char> encode(DType type, const std::vector<float>& values) {
  std::vector<char> bytes(static_cast<size_t>(dtype_bytes(type, static_cast<int64_t>(values.size()))));
  if (type == DType::kF32) {
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t half = encode_half(values[i], type == DType::kF16 ? 5 : 8);
    std::memcpy(bytes.data() + 2 * i, &half, 2);
  }
  return bytes;
}

inline std::vector<float> decode_all(DType type, const std::vector<char>& bytes) {
  const size_t size = type == DType::kF32 ? 4 : 2;
  std::vector<float> values(bytes.size() / size);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(decode(type, bytes.data() + i * size));
  return values;
}

constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16};
inline const char* type_name(DType type) { return type == DType::kF32 ? "f32" : type == DType::kF16 ? "f16" : "bf16"; }

/** The bound of this file's head. */
inline void check_close(const std::vector<float>& got, const std::vector<double>& exact, const std::vector<float>& plain,
                        const std::string& what) {
  double error = 0;
  double plain_error = 0;
  double largest = 0;
  bool numbers = got.size() == exact.size() && plain.size() == exact.size();
  for (size_t i = 0; numbers && i < exact.size(); ++i) {
    numbers = std::isfinite(got[i]);
    error = std::max(error, std::fabs(got[i] - exact[i]));
    plain_error = std::max(plain_error, std::fabs(plain[i] - exact[i]));
    largest = std::max(largest, std::fabs(exact[i]));
  }
  const double bound = 2 * plain_error + largest * std::ldexp(1.0, -23);
  if (numbers && error <= bound) return;
  char text[160];
  std::snprintf(text, sizeof(text), "%s: worst error %.3g, allowed %.3g (a plain loop has %.3g)", what.c_str(), error, bound,
                plain_error);
  report(__FILE__, __LINE__, numbers ? text : what + ": a number is missing or not finite");
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

inline std::vector<float> slice(const std::vector<float>& values, int64_t first, int64_t n) {
  return {values.begin() + first, values.begin() + first + n};
}

}  // namespace himap::test
