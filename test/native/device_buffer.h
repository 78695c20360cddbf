// Memory of the device under test, for tests that run on a card (nvcc) and on the host's SIMT machine (g++) alike.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/device.h"
#include "test/native/check.h"

namespace himap::test {

#ifdef __CUDACC__
inline void* device_allocate(size_t bytes) {
  void* memory = nullptr;
  if (cudaMalloc(&memory, bytes ? bytes : 1) != cudaSuccess) report(__FILE__, __LINE__, "the card is out of memory");
  return memory;
}
inline void device_free(void* memory) { cudaFree(memory); }
inline void device_copy(void* to, const void* from, size_t bytes) { cudaMemcpy(to, from, bytes, cudaMemcpyDefault); }
#else
// Exactly as long as asked for: AddressSanitizer guards both ends.
inline void* device_allocate(size_t bytes) {
  void* memory = nullptr;
  return posix_memalign(&memory, 256, bytes ? bytes : 1) == 0 ? memory : nullptr;
}
inline void device_free(void* memory) { std::free(memory); }
inline void device_copy(void* to, const void* from, size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}
#endif

/** What a kernel reads. */
template <class T>
class Input {
 public:
  explicit Input(const std::vector<T>& values) : memory_(device_allocate(values.size() * sizeof(T))) {
    device_copy(memory_, values.data(), values.size() * sizeof(T));
  }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;
  ~Input() { device_free(memory_); }
  const T* get() const { return static_cast<const T*>(memory_); }

 private:
  void* memory_;
};

/** What a kernel writes: elements of 0xff bytes (NaN) or of given values, between two fences that must stay as they are. */
template <class T>
class Output {
 public:
  explicit Output(size_t elements) : Output(elements, nullptr) {}
  explicit Output(const std::vector<T>& values) : Output(values.size(), values.data()) {}
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  ~Output() { device_free(memory_); }

  T* get() { return reinterpret_cast<T*>(static_cast<unsigned char*>(memory_) + kFence); }

  /** The elements, and a failure of the case where a fence was touched. */
  std::vector<T> read() {
    std::vector<unsigned char> bytes(elements_ * sizeof(T) + 2 * kFence);
    device_copy(bytes.data(), memory_, bytes.size());
    for (size_t i = 0; i < kFence; ++i) {
      if (bytes[i] == kFenceByte && bytes[bytes.size() - 1 - i] == kFenceByte) continue;
      report(__FILE__, __LINE__, "a kernel wrote outside its output");
      break;
    }
    std::vector<T> values(elements_);
    if (elements_ > 0) std::memcpy(values.data(), bytes.data() + kFence, elements_ * sizeof(T));
    return values;
  }

 private:
  static constexpr size_t kFence = 256;
  static constexpr unsigned char kFenceByte = 0xa5;

  Output(size_t elements, const T* maybe_values)
      : elements_(elements), memory_(device_allocate(elements * sizeof(T) + 2 * kFence)) {
    std::vector<unsigned char> bytes(elements * sizeof(T) + 2 * kFence, 0xff);
    std::fill_n(bytes.begin(), kFence, kFenceByte);
    std::fill_n(bytes.end() - static_cast<std::ptrdiff_t>(kFence), kFence, kFenceByte);
    const auto* values = reinterpret_cast<const unsigned char*>(maybe_values);
    if (values) std::copy_n(values, elements * sizeof(T), bytes.begin() + static_cast<std::ptrdiff_t>(kFence));
    device_copy(memory_, bytes.data(), bytes.size());
  }

  size_t elements_;
  void* memory_;
};

/** Uniform numbers that do not depend on the library: seed in, the same on every machine. */
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint32_t bits() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<uint32_t>((state_ * 0x2545f4914f6cdd1du) >> 32);
  }
  /** In [-1, 1). */
  float uniform() { return static_cast<float>(static_cast<int32_t>(bits())) * 0x1p-31f; }

 private:
  uint64_t state_;
};

/** Fails the case, with the device's words, unless a launch and what it started went well. */
inline bool launched(device::DeviceError error) {
#ifdef __CUDACC__
  if (error == device::kNoError) error = cudaDeviceSynchronize();
#endif
  if (error != device::kNoError) report(__FILE__, __LINE__, device::error_text(error));
  return error == device::kNoError;
}

}  // namespace himap::test
