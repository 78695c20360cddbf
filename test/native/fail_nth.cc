#include "test/native/fail_nth.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <new>

#include "native/backend/ops.h"

namespace himap::test {
namespace {

std::atomic<int64_t> left{0};  // requests until the one that fails; 0: none
std::atomic<const char*> failed{nullptr};
std::atomic<int> madvise_error{EINVAL};
std::atomic<int64_t> blocks{0};
std::atomic<int64_t> maps{0};
std::atomic<int64_t> descriptors{0};
std::atomic<int64_t> threads{0};

bool fails(const char* request) {
  if (left.load(std::memory_order_relaxed) <= 0 || left.fetch_sub(1) != 1) return false;
  failed = request;
  return true;
}

void* allocate(size_t bytes, size_t alignment) {
  if (fails("operator new")) throw std::bad_alloc();
  void* memory = alignment > alignof(std::max_align_t) ? std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment)
                                                       : std::malloc(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  ++blocks;
  return memory;
}

void release(void* memory) noexcept {
  if (memory == nullptr) return;
  --blocks;
  std::free(memory);
}

}  // namespace

void fail_nth(int64_t nth) {
  failed = nullptr;
  left = nth;
}

void madvise_fails_with(int error) { madvise_error = error; }

const char* failed_request() { return failed; }

Held held() { return {blocks, maps, descriptors, threads}; }

}  // namespace himap::test

using himap::test::fails;

void* operator new(size_t bytes) { return himap::test::allocate(bytes, 0); }
void* operator new[](size_t bytes) { return himap::test::allocate(bytes, 0); }
void* operator new(size_t bytes, std::align_val_t alignment) { return himap::test::allocate(bytes, static_cast<size_t>(alignment)); }
void operator delete(void* memory) noexcept { himap::test::release(memory); }
void operator delete[](void* memory) noexcept { himap::test::release(memory); }
void operator delete(void* memory, size_t) noexcept { himap::test::release(memory); }
void operator delete[](void* memory, size_t) noexcept { himap::test::release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { himap::test::release(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { himap::test::release(memory); }

extern "C" {

const himap::BackendApi* himap_backend();

int __real_open(const char* path, int flags, ...);
int __real_close(int descriptor);
int __real_fstat(int descriptor, struct stat* status);
ssize_t __real_pread(int descriptor, void* to, size_t bytes, off_t at);
int __real_madvise(void* address, size_t bytes, int advice);
void* __real_mmap(void* address, size_t bytes, int protection, int flags, int descriptor, off_t at);
int __real_munmap(void* address, size_t bytes);
int __real_posix_memalign(void** memory, size_t alignment, size_t bytes);

int __wrap_open(const char* path, int flags, ...) {
  if (fails("open")) {
    errno = EMFILE;
    return -1;
  }
  const int descriptor = __real_open(path, flags);  // ours only reads
  if (descriptor >= 0) ++himap::test::descriptors;
  return descriptor;
}

int __wrap_close(int descriptor) {
  --himap::test::descriptors;
  return __real_close(descriptor);
}

int __wrap_fstat(int descriptor, struct stat* status) {
  if (!fails("fstat")) return __real_fstat(descriptor, status);
  errno = EIO;
  return -1;
}

ssize_t __wrap_pread(int descriptor, void* to, size_t bytes, off_t at) {
  if (!fails("pread")) return __real_pread(descriptor, to, bytes, at);
  errno = EIO;
  return -1;
}

int __wrap_madvise(void* address, size_t bytes, int advice) {
  if (!fails("madvise")) return __real_madvise(address, bytes, advice);
  errno = himap::test::madvise_error;
  return -1;
}

void* __wrap_mmap(void* address, size_t bytes, int protection, int flags, int descriptor, off_t at) {
  if (fails("mmap")) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  void* memory = __real_mmap(address, bytes, protection, flags, descriptor, at);
  if (memory != MAP_FAILED) ++himap::test::maps;
  return memory;
}

int __wrap_munmap(void* address, size_t bytes) {
  --himap::test::maps;
  return __real_munmap(address, bytes);
}

int __wrap_posix_memalign(void** memory, size_t alignment, size_t bytes) {
  return fails("posix_memalign") ? ENOMEM : __real_posix_memalign(memory, alignment, bytes);
}

// The backend is linked into the program, so that its requests are wrapped too.
void* __wrap_dlopen(const char*, int) {
  static int library;
  return fails("dlopen") ? nullptr : &library;
}
void* __wrap_dlsym(void*, const char*) { return reinterpret_cast<void*>(&himap_backend); }
const char* __wrap_dlerror() { return "refused on purpose"; }

// Called by the C++ runtime's library, where no --wrap reaches; the next definition is the sanitizer's, or the system's.
void* __real_dlsym(void* library, const char* name);
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*), void* argument) {
  if (fails("pthread_create")) return EAGAIN;
  using Create = int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto real = reinterpret_cast<Create*>(__real_dlsym(RTLD_NEXT, "pthread_create"));
  const int refused = real(thread, attributes, start, argument);
  if (refused == 0) ++himap::test::threads;
  return refused;
}
int pthread_join(pthread_t thread, void** result) {
  using Join = int(pthread_t, void**);
  static const auto real = reinterpret_cast<Join*>(__real_dlsym(RTLD_NEXT, "pthread_join"));
  --himap::test::threads;
  return real(thread, result);
}

}  // extern "C"
