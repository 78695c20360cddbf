#include "native/addon/file_lock.h"

#include <sys/file.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <string>

#include "native/addon/read.h"
#include "native/core/status.h"

namespace himap {

Napi::Value lock_file(const Napi::CallbackInfo& info) {
  const Fields fields = argument_fields("lockFile", info);
  const auto descriptor = static_cast<int>(fields.integer("descriptor", 0, std::numeric_limits<int>::max()));
  int result;
  do {
    result = flock(descriptor, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  const int error = result == 0 ? 0 : errno;
  require(error == 0 || error == EWOULDBLOCK, Code::ERR_INVALID_ARG,
          "[lockFile] expected a file that can be locked but received " + std::to_string(descriptor) + ": " + std::strerror(error));
  return Napi::Boolean::New(info.Env(), error == 0);
}

}  // namespace himap
