#include "kernels/simt/context.h"

#include <cstdint>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#ifdef HIMAP_SIMT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef HIMAP_SIMT_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* sync);
void __tsan_release(void* sync);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace himap::simt {

#if defined(__x86_64__)

// Saves the registers that a call preserves, changes stacks, restores them. ucontext would ask the kernel for the
// signal mask each time: about ten times as slow.
extern "C" void himap_simt_switch(void** from_stack_pointer, void* to_stack_pointer);
asm(R"(
.text
.p2align 4
.globl himap_simt_switch
.hidden himap_simt_switch
.type himap_simt_switch, @function
himap_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size himap_simt_switch, .-himap_simt_switch
)");

static void prepare_stack(Context& context, void (*entry)()) {
  const auto top = (reinterpret_cast<uintptr_t>(context.stack_bottom) + context.stack_bytes) & ~uintptr_t{63};
  auto* at = reinterpret_cast<void**>(top);
  *--at = nullptr;  // where entry would return to
  *--at = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; ++saved) *--at = nullptr;
  context.stack_pointer = at;
}

static void change_stack(Context& from, Context& to) { himap_simt_switch(&from.stack_pointer, to.stack_pointer); }

#else

static void prepare_stack(Context& context, void (*entry)()) {
  auto* state = static_cast<ucontext_t*>(context.stack_pointer);
  if (!state) context.stack_pointer = state = new ucontext_t;  // kept for the life of the stack
  getcontext(state);
  state->uc_stack.ss_sp = const_cast<void*>(context.stack_bottom);
  state->uc_stack.ss_size = context.stack_bytes;
  state->uc_link = nullptr;
  makecontext(state, entry, 0);
}

static void change_stack(Context& from, Context& to) {
  if (!from.stack_pointer) from.stack_pointer = new ucontext_t;
  swapcontext(static_cast<ucontext_t*>(from.stack_pointer), static_cast<ucontext_t*>(to.stack_pointer));
}

#endif

void start_context(Context& context, void (*entry)()) {
  context.asan_fake_stack = nullptr;
  prepare_stack(context, entry);
}

void switch_context(Context& from, Context& to, [[maybe_unused]] bool for_good) {
#ifdef HIMAP_SIMT_ASAN
  __sanitizer_start_switch_fiber(for_good ? nullptr : &from.asan_fake_stack, to.stack_bottom, to.stack_bytes);
#endif
#ifdef HIMAP_SIMT_TSAN
  constexpr unsigned kNoOrder = 1;  // a switch orders nothing by itself
  __tsan_switch_to_fiber(to.tsan_fiber, kNoOrder);
#endif
  change_stack(from, to);
#ifdef HIMAP_SIMT_ASAN
  __sanitizer_finish_switch_fiber(from.asan_fake_stack, nullptr, nullptr);
#endif
}

void context_entered([[maybe_unused]] Context* maybe_previous) {
#ifdef HIMAP_SIMT_ASAN
  __sanitizer_finish_switch_fiber(nullptr, maybe_previous ? &maybe_previous->stack_bottom : nullptr,
                                  maybe_previous ? &maybe_previous->stack_bytes : nullptr);
#endif
}

#ifdef HIMAP_SIMT_TSAN
void tsan_release(void* sync) { __tsan_release(sync); }
void tsan_acquire(void* sync) { __tsan_acquire(sync); }
TsanUnseen::TsanUnseen() {
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}
TsanUnseen::~TsanUnseen() {
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}
void* tsan_create_fiber() { return __tsan_create_fiber(0); }
void* tsan_current_fiber() { return __tsan_get_current_fiber(); }
void tsan_destroy_fiber(void* fiber) { __tsan_destroy_fiber(fiber); }
#else
void tsan_release(void*) {}
void tsan_acquire(void*) {}
TsanUnseen::TsanUnseen() = default;
TsanUnseen::~TsanUnseen() = default;
void* tsan_create_fiber() { return nullptr; }
void* tsan_current_fiber() { return nullptr; }
void tsan_destroy_fiber(void*) {}
#endif

bool asan_forbids([[maybe_unused]] const void* memory, [[maybe_unused]] size_t bytes) {
#ifdef HIMAP_SIMT_ASAN
  return __asan_region_is_poisoned(const_cast<void*>(memory), bytes) != nullptr;
#else
  return false;
#endif
}

void asan_forget([[maybe_unused]] const void* memory, [[maybe_unused]] size_t bytes) {
#ifdef HIMAP_SIMT_ASAN
  __asan_unpoison_memory_region(memory, bytes);
#endif
}

}  // namespace himap::simt
