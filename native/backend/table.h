// What the tables of all backends are made of: parameters checked, exceptions turned into codes and a sentence, operations
// as entries. Each backend's `struct Device` begins with what is here.
#pragma once

#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "native/backend/ops.h"
#include "native/core/status.h"

namespace himap {

struct DeviceBase {
  char error[512] = "";  // of the last call that failed
  bool lost = false;     // after which nothing is asked of it
};

/** `holds`, or ERR_INVALID_ARG "[where] what; got came". */
inline void check(bool holds, const char* where, const char* what, int64_t came) {
  if (!holds) fail(Code::ERR_INVALID_ARG, std::string("[") + where + "] " + what + "; got " + std::to_string(came));
}

inline void check_pointer(const void* pointer, const char* where, const char* name) {
  if (!pointer) fail(Code::ERR_INVALID_ARG, std::string("[") + where + "] " + name + " must point to memory; got null");
}

inline void copy_text(char* to, size_t bytes, const char* text) {
  if (to && bytes > 0) std::snprintf(to, bytes, "%s", text);
}

/** Runs fn; what it throws becomes a code, and a sentence in `reason`. */
template <class Fn>
int32_t guarded(char* reason, size_t reason_bytes, const Fn& fn) noexcept {
  Code code = Code::ERR_INTERNAL;
  try {
    fn();
    return static_cast<int32_t>(Code::kOk);
  } catch (const Error& error) {
    code = error.code;
    copy_text(reason, reason_bytes, error.what());
  } catch (const std::bad_alloc&) {
    code = Code::ERR_OUT_OF_MEMORY;
    copy_text(reason, reason_bytes, "[backend] working memory could not be had");
  } catch (const std::exception& error) {
    copy_text(reason, reason_bytes, error.what());
  } catch (...) {
    copy_text(reason, reason_bytes, "[backend] an exception of no known type");
  }
  return static_cast<int32_t>(code);
}

template <class Fn>
int32_t on_device(DeviceBase* device, const Fn& fn) noexcept {
  if (!device) return static_cast<int32_t>(Code::ERR_INVALID_ARG);
  if (device->lost) return static_cast<int32_t>(Code::ERR_DEVICE_LOST);
  const int32_t code = guarded(device->error, sizeof(device->error), fn);
  device->lost = static_cast<Code>(code) == Code::ERR_DEVICE_LOST;
  return code;
}

inline const char* error_of(const DeviceBase* device) { return device ? device->error : "[backend] no device is open"; }

/** The table's entry for an operation: parameters by pointer, exceptions as codes. */
template <class Device, class Params, void (*operation)(Device&, const Params&)>
int32_t entry(Device* device, const Params* params) noexcept {
  return on_device(device, [&] {
    check_pointer(params, "backend", "params");
    operation(*device, *params);
  });
}

}  // namespace himap
