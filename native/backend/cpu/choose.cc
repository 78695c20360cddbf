#include "native/backend/cpu/choose.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

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

#if defined(__x86_64__)
/** Conversion between float16 and float32; the compilers' own test does not know its name everywhere. */
bool has_f16c() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

/** Worst to best. */
template <class Fn>
void for_each_choice(const Fn& fn) {
  fn(Choice{&kKernelsPortable, true});
#if defined(__x86_64__)
  // The compiler's own test asks the operating system too: registers that it does not save do not count.
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
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

bool wants_prefetch() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_is("amd");
#else
  return false;
#endif
}

}  // namespace himap
