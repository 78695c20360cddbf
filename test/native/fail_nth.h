// Makes the n-th request to the system fail: memory (operator new, posix_memalign, mmap), files (open, fstat, pread,
// madvise), threads, and the search for a backend's library. The program that uses it is linked with test/native/fail_nth.cc
// and with `--wrap` for these functions (CMakeLists.txt): the product knows nothing of it.
#pragma once

#include <cstdint>

namespace himap::test {

/** What the program holds at the moment. */
struct Held {
  int64_t blocks = 0;       // of operator new
  int64_t maps = 0;
  int64_t descriptors = 0;  // opened and not yet closed
  int64_t threads = 0;      // started and not yet joined
};

inline bool operator==(const Held& a, const Held& b) {
  return a.blocks == b.blocks && a.maps == b.maps && a.descriptors == b.descriptors && a.threads == b.threads;
}

/** The `nth` request from now on fails, counted from 1 over all threads; 0: none. */
void fail_nth(int64_t nth);

/** What madvise says when it fails: EINVAL from a system that does not know the advice (the default), EFAULT from a bad disk. */
void madvise_fails_with(int error);

/** What has failed since then, e.g. "mmap"; null if there were not as many requests. */
const char* failed_request();

Held held();

}  // namespace himap::test
