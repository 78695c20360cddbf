// An open file that closes itself.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <string>

namespace himap {

struct Descriptor {
  /** Opened to be read; negative where that failed, with errno. */
  explicit Descriptor(const std::string& path) : value(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~Descriptor() {
    if (value >= 0) close(value);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  const int value;
};

}  // namespace himap
