// Run-time types become template arguments here, for every launcher.
#pragma once

#include "kernels/float16.h"

namespace himap {

/** fn(T()) for the 16-bit type of the activations. */
template <class Fn>
auto with_activation(DType type, const Fn& fn) {
  return type == DType::kF16 ? fn(F16()) : fn(Bf16());
}

/** fn(T()) for any storage type. */
template <class Fn>
auto with_storage(DType type, const Fn& fn) {
  return type == DType::kF32 ? fn(float()) : with_activation(type, fn);
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace himap
