// A weights file in memory: mapped read-only, so that processes share one copy, or read into memory for files that may
// be truncated while the engine runs (a mapped file then raises SIGBUS).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace himap {

class MappedFile {
 public:
  /**
   * Opens `path`, which must be a regular file of exactly `bytes` bytes, and brings all of it into memory.
   * `progress(done)` is called now and then with the bytes of this file that are there; it may throw to give up.
   * Errors: ERR_BAD_CHECKPOINT (missing, other size), ERR_OUT_OF_MEMORY.
   */
  MappedFile(const std::string& path, int64_t bytes, bool copy, const std::function<void(int64_t)>& progress);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const { return static_cast<const uint8_t*>(data_); }
  int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_;
};

}  // namespace himap
