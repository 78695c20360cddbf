#include "native/backend/cpu/device.h"

#include <cstdlib>
#include <new>

namespace himap {

Scratch::~Scratch() { std::free(data_); }

float* Scratch::grow(int64_t floats) {
  if (floats <= floats_) return data_;
  std::free(data_);
  data_ = nullptr;
  floats_ = 0;
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, static_cast<size_t>(floats) * sizeof(float)) != 0) throw std::bad_alloc();
  data_ = static_cast<float*>(memory);
  floats_ = floats;
  return data_;
}

}  // namespace himap
