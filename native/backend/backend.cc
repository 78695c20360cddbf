#include "native/backend/backend.h"

#include <dlfcn.h>

#include <thread>

#include "native/backend/library_file.h"

namespace himap {
namespace {

std::string library_path(const std::string& folder, const std::string& name) {
  return folder + "/libhimap-" + name + ".so";
}

}  // namespace

const BackendApi& load_backend(const std::string& folder, const std::string& name) {
  const std::string path = library_path(folder, name);
  check_library_file(path);
  // Never closed: a device thread may outlive its last user, and the library is linked with -z nodelete.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  require(library != nullptr, Code::ERR_NO_BINARY, "[backend] " + std::string(library ? "" : dlerror()));
  const auto function = reinterpret_cast<HimapBackendFunction*>(dlsym(library, kBackendSymbol));
  require(function != nullptr, Code::ERR_NO_BINARY, "[backend] " + path + " does not export " + kBackendSymbol);
  const BackendApi* api = function();
  require(api != nullptr, Code::ERR_NO_BINARY, "[backend] " + path + " gives no interface");
  require(api->abi == kBackendAbi, Code::ERR_NO_BINARY,
          "[backend] " + path + " must have interface " + std::to_string(kBackendAbi) + "; got " + std::to_string(api->abi));
  return *api;
}

BackendProbe probe_backend(const std::string& folder, const std::string& name) {
  BackendProbe probe{library_path(folder, name), false, "", ""};
  try {
    char reason[256] = "";
    char detail[64] = "";
    probe.usable = load_backend(folder, name).probe(reason, sizeof(reason), detail, sizeof(detail)) == 0;
    probe.reason = reason;
    probe.detail = detail;
  } catch (const Error& error) {
    probe.reason = error.message;
  }
  return probe;
}

std::optional<DeviceMemory> device_memory(const std::string& folder, const std::string& name) {
  try {
    DeviceMemory memory{};
    if (load_backend(folder, name).memory(&memory.free, &memory.total) == 0) return memory;
  } catch (const Error&) {  // not a backend that can be used here: `probe_backend` says why
  }
  return std::nullopt;
}

Backend::Backend(const BackendApi& api, const DeviceOptions& options, std::chrono::milliseconds watchdog)
    : api_(api), watchdog_(watchdog) {
  char reason[256] = "";
  const int32_t code = api.open(&options, &device_, &info_, reason, sizeof(reason));
  if (code != 0) throw Error(static_cast<Code>(code), reason);
}

void Backend::wait() {
  using Clock = std::chrono::steady_clock;
  // Long enough for a decode step of a large model on a card: a nap of 50 us takes twice that with the system's timer slack, and
  // would end each of them late.
  constexpr std::chrono::milliseconds kSpin{10};
  constexpr std::chrono::microseconds kNap{50};
  const Clock::time_point start = Clock::now();
  for (;;) {
    int32_t idle = 0;
    call(&BackendApi::poll, &idle);
    if (idle) return;
    const auto waited = Clock::now() - start;
    if (waited > watchdog_) {
      lost_ = true;
      fail(Code::ERR_DEVICE_LOST, "[backend] the device did not finish within " + std::to_string(watchdog_.count()) + " ms");
    }
    if (waited > kSpin) std::this_thread::sleep_for(kNap);
  }
}

}  // namespace himap
