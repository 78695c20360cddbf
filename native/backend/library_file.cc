#include "native/backend/library_file.h"

#include <elf.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "native/core/descriptor.h"
#include "native/core/status.h"

namespace himap {

void check_library_file(const std::string& path) {
  const Descriptor file(path);
  if (file.value < 0) {
    fail(Code::ERR_NO_BINARY, "[backend] " + path +
                                  (errno == ENOENT ? " does not exist: it was not built"
                                                   : " could not be opened: " + std::string(std::strerror(errno))));
  }
  struct stat status {};
  Elf64_Ehdr header{};
  const bool read = fstat(file.value, &status) == 0 && pread(file.value, &header, sizeof(header), 0) == ssize_t{sizeof(header)};
  require(read && std::memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 && header.e_ident[EI_CLASS] == ELFCLASS64, Code::ERR_NO_BINARY,
          "[backend] " + path + " must be a shared library; got " + std::to_string(status.st_size) + " bytes of something else");
  // The table of sections is the last thing in the file.
  const uint64_t end = header.e_shoff + uint64_t{header.e_shentsize} * header.e_shnum;
  require(static_cast<uint64_t>(status.st_size) >= end, Code::ERR_NO_BINARY,
          "[backend] " + path + " must have " + std::to_string(end) + " bytes; got its first " + std::to_string(status.st_size));
}

}  // namespace himap
