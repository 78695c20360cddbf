// One flow of control with a stack of its own, and the switch between two of them, told to the sanitizers.
//
// The machine's sources are compiled without the sanitizers' instrumentation; HIMAP_SIMT_TSAN or HIMAP_SIMT_ASAN says
// that the rest has it. What the machine reads and writes for itself is then invisible to them, so that their reports
// are about kernels only, and no frame of the machine leaves poison on a stack that it does not return from.
#pragma once

#include <cstddef>

namespace himap::simt {

struct Context {
  void* stack_pointer = nullptr;
  const void* stack_bottom = nullptr;  // the lowest address
  size_t stack_bytes = 0;
  void* tsan_fiber = nullptr;
  void* asan_fake_stack = nullptr;
};

/** Prepares `context` to call `entry` on its stack when it is switched to. `entry` never returns. */
void start_context(Context& context, void (*entry)());

/** Runs `to` until something switches back to `from`; `for_good`: nothing ever will. */
void switch_context(Context& from, Context& to, bool for_good);

/** First thing in `entry`. `maybe_previous` learns the bounds of the stack that was left. */
void context_entered(Context* maybe_previous);

/** Order between fibers, as ThreadSanitizer shall see it: what came before a release happens before its acquire. */
void tsan_release(void* sync);
void tsan_acquire(void* sync);

/** While one lives, ThreadSanitizer does not see this fiber's memory, in memcpy and operator new either. No switch meanwhile. */
class TsanUnseen {
 public:
  TsanUnseen();
  ~TsanUnseen();
  TsanUnseen(const TsanUnseen&) = delete;
  TsanUnseen& operator=(const TsanUnseen&) = delete;
};

void* tsan_create_fiber();
void* tsan_current_fiber();
void tsan_destroy_fiber(void* fiber);

/** Whether AddressSanitizer knows that some of the bytes may not be read; false without it. */
bool asan_forbids(const void* memory, size_t bytes);

/** A stack that was left in the middle of things is clean again. */
void asan_forget(const void* memory, size_t bytes);

}  // namespace himap::simt
