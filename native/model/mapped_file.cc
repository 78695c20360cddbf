#include "native/model/mapped_file.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "native/core/descriptor.h"
#include "native/core/status.h"

namespace himap {
namespace {

constexpr int64_t kChunk = 32 << 20;  // between two progress reports

void read_all(int descriptor, uint8_t* to, int64_t begin, int64_t end, const std::string& path) {
  while (begin < end) {
    const ssize_t got = pread(descriptor, to + begin, static_cast<size_t>(end - begin), begin);
    if (got < 0 && errno == EINTR) continue;
    require(got > 0, Code::ERR_BAD_CHECKPOINT,
            "[weights] " + path + " could not be read at byte " + std::to_string(begin) + ": " +
                (got == 0 ? "the file ends" : std::strerror(errno)));
    begin += got;
  }
}

/**
 * Brings in every page, so that a cold file is read here, with progress, and not in the first request; and so that a page that
 * cannot be read is an error here, and not the signal that touching it would be.
 */
void populate(uint8_t* data, int64_t begin, int64_t end, const std::string& path) {
#ifdef MADV_POPULATE_READ
  int error = 0;
  do {
    if (madvise(data + begin, static_cast<size_t>(end - begin), MADV_POPULATE_READ) == 0) return;
    error = errno;
  } while (error == EINTR || error == EAGAIN);
  require(error != ENOMEM, Code::ERR_OUT_OF_MEMORY, "[weights] " + path + " could not be mapped whole: " + std::strerror(error));
  // Linux before 5.14 does not know the request; pages are touched there.
  require(error == EINVAL, Code::ERR_BAD_CHECKPOINT,
          "[weights] " + path + " could not be read between bytes " + std::to_string(begin) + " and " + std::to_string(end) + ": " +
              std::strerror(error));
#endif
  static const int64_t page = sysconf(_SC_PAGESIZE);
  uint8_t sum = 0;
  for (int64_t at = begin; at < end; at += page) sum ^= static_cast<const volatile uint8_t*>(data)[at];
  static_cast<void>(sum);
}

}  // namespace

MappedFile::MappedFile(const std::string& path, int64_t bytes, bool copy, const std::function<void(int64_t)>& progress)
    : bytes_(bytes) {
  const Descriptor file(path);
  require(file.value >= 0, Code::ERR_BAD_CHECKPOINT, "[weights] " + path + " could not be opened: " + std::strerror(errno));
  struct stat status {};
  require(fstat(file.value, &status) == 0 && S_ISREG(status.st_mode), Code::ERR_BAD_CHECKPOINT,
          "[weights] " + path + " must be a regular file");
  require(status.st_size == bytes, Code::ERR_BAD_CHECKPOINT,
          "[weights] " + path + " must have " + std::to_string(bytes) + " bytes, as when its header was read; got " +
              std::to_string(status.st_size));
  if (bytes == 0) return;
  const auto size = static_cast<size_t>(bytes);
  void* data = copy ? mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                    : mmap(nullptr, size, PROT_READ, MAP_SHARED, file.value, 0);
  if (data == MAP_FAILED) fail(Code::ERR_OUT_OF_MEMORY, "[weights] " + path + " could not be mapped: " + std::strerror(errno));
  data_ = data;
  try {
    if (!copy) madvise(data, size, MADV_WILLNEED);
    for (int64_t begin = 0; begin < bytes; begin += kChunk) {
      const int64_t end = std::min(bytes, begin + kChunk);
      if (copy) read_all(file.value, static_cast<uint8_t*>(data), begin, end, path);
      else populate(static_cast<uint8_t*>(data), begin, end, path);
      progress(end);
    }
  } catch (...) {
    munmap(data_, size);  // the destructor of a half-made object does not run
    throw;
  }
}

MappedFile::~MappedFile() {
  if (data_) munmap(data_, static_cast<size_t>(bytes_));
}

}  // namespace himap
