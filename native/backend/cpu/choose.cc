#include "native/backend/cpu/choose.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "native/core/status.h"

namespace himap {
namespace {

struct Choice {
  const CpuKernels* kernels;
  bool usable;
};

/** Worst to best. */
template <class Fn>
void for_each_choice(const Fn& fn) {
  fn(Choice{&kKernelsPortable, true});
#if defined(__x86_64__)
  // The compiler's own test asks the operating system too: registers that it does not save do not count.
  __builtin_cpu_init();
  // F16C has no name in older compilers' tests; every processor with AVX2 and FMA has it.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  fn(Choice{&kKernelsAvx2, avx2});
  fn(Choice{&kKernelsAvx512, avx512});
#endif
}

}  // namespace

const CpuKernels& choose_kernels() {
  const char* wanted = std::getenv("HIMAP_CPU");
  const bool forced = wanted && *wanted;
  const CpuKernels* chosen = nullptr;
  std::string usable;
  for_each_choice([&](const Choice& choice) {
    if (!choice.usable) return;
    usable += (usable.empty() ? "" : ", ") + std::string(choice.kernels->name);
    if (!forced || std::strcmp(wanted, choice.kernels->name) == 0) chosen = choice.kernels;
  });
  if (!chosen) {
    fail(Code::ERR_INVALID_ARG, "[open] HIMAP_CPU must be one of what this processor has (" + usable + "); got \"" +
                                    std::string(wanted).substr(0, 32) + "\"");
  }
  return *chosen;
}

}  // namespace himap
