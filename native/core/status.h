// Error codes and the one exception of the engine. lib/errors.cts has the same list; a test compares them.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <utility>

namespace himap {

// name, in the order of lib/errors.cts. The numbers cross the backend's C line, so new codes go to the end.
#define HIMAP_ERROR_CODES(X)                                                                                    \
  X(ERR_INVALID_ARG) X(ERR_BAD_CHECKPOINT) X(ERR_TENSOR_MISSING) X(ERR_TENSOR_EXTRA) X(ERR_TENSOR_SHAPE)       \
  X(ERR_UNSUPPORTED_MODEL) X(ERR_UNSUPPORTED_FILE) X(ERR_BAD_IMAGE) X(ERR_TOO_LARGE) X(ERR_CONTEXT_OVERFLOW)   \
  X(ERR_OUT_OF_MEMORY) X(ERR_QUEUE_FULL) X(ERR_TIMEOUT) X(ERR_ABORTED) X(ERR_DISPOSED) X(ERR_DEVICE_LOST)      \
  X(ERR_NO_BINARY) X(ERR_INTERNAL)

enum class Code : int32_t {
  kOk = 0,
#define HIMAP_CODE(name) name,
  HIMAP_ERROR_CODES(HIMAP_CODE)
#undef HIMAP_CODE
};

/** The code's name as users see it, e.g. "ERR_INVALID_ARG". */
inline const char* code_name(Code code) {
  static constexpr const char* kNames[] = {"OK",
#define HIMAP_CODE(name) #name,
                                           HIMAP_ERROR_CODES(HIMAP_CODE)
#undef HIMAP_CODE
  };
  const auto index = static_cast<uint32_t>(code);
  return index < sizeof(kNames) / sizeof(kNames[0]) ? kNames[index] : "ERR_INTERNAL";
}

struct Error : std::exception {
  Code code;
  std::string message;

  Error(Code error_code, std::string text) : code(error_code), message(std::move(text)) {}
  const char* what() const noexcept override { return message.c_str(); }
};

[[noreturn]] inline void fail(Code code, const std::string& message) { throw Error(code, message); }

/** Message first: `require(rows > 0, Code::ERR_INVALID_ARG, "[step] rows must be positive; got 0")`. */
template <class Message>
inline void require(bool holds, Code code, Message&& message) {
  if (!holds) throw Error(code, std::forward<Message>(message));
}

}  // namespace himap
