// A backend's library opened at run time, and a device of it with errors as exceptions and buffers that free themselves.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "native/backend/ops.h"
#include "native/core/status.h"

namespace himap {

struct BackendProbe {
  std::string path;
  bool usable;
  std::string reason;  // why it is not usable
  std::string detail;  // e.g. the vector path of the CPU
};

/** The backends that a package may hold. */
constexpr const char* kBackendNames[] = {"cpu", "cuda"};

/** The table of `<folder>/libhimap-<name>.so`. ERR_NO_BINARY if it cannot be opened or is of another version. */
const BackendApi& load_backend(const std::string& folder, const std::string& name);

/** Whether a backend can be used here. Throws nothing but bad_alloc, which says nothing about the backend. */
BackendProbe probe_backend(const std::string& folder, const std::string& name);

/** How long a device may work without finishing before it counts as lost. */
constexpr std::chrono::milliseconds kWatchdog{60'000};

struct DeviceMemory {
  int64_t free;
  int64_t total;
};

/** The memory of a backend's device, in bytes; none where it cannot be told. Throws nothing but bad_alloc. */
std::optional<DeviceMemory> device_memory(const std::string& folder, const std::string& name);

class Backend {
 public:
  Backend(const BackendApi& api, const DeviceOptions& options, std::chrono::milliseconds watchdog = kWatchdog);
  ~Backend() {
    if (!lost_) api_.close(device_);
  }
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  const DeviceInfo& info() const { return info_; }
  /** For a bench that measures on the device's own queue. */
  Device* device() const { return device_; }

  /** Calls a function of the table: `call(&BackendApi::upload, to, from, bytes)`. */
  template <class... Parameters, class... Arguments>
  void call(int32_t (*BackendApi::*function)(Device*, Parameters...), Arguments&&... arguments) {
    check_alive();
    check((api_.*function)(device_, std::forward<Arguments>(arguments)...));
  }
  /** Runs an operation: `run(&BackendApi::linear, params)`. */
  template <class Params>
  void run(int32_t (*BackendApi::*function)(Device*, const Params*), const Params& params) {
    check_alive();
    check((api_.*function)(device_, &params));
  }

  /** Until everything asked for is done. ERR_DEVICE_LOST when the watchdog's time has passed. */
  void wait();

  /** `count` values out of device memory, once they are there. */
  template <class T>
  void download(T* to, const void* from, size_t count) {
    wait();
    call(&BackendApi::download, static_cast<void*>(to), from, count * sizeof(T));
  }
  void download_activations(float* to, const void* from, int64_t elements) {
    wait();
    call(&BackendApi::download_activations, to, from, elements);
  }

  void release(void* buffer) {
    ++moves_;
    if (!lost_) api_.release(device_, buffer);
  }
  void release(Weight* weight) {
    if (!lost_) api_.weight_release(device_, weight);
  }
  void release(Graph* graph) {
    if (!lost_) api_.graph_release(device_, graph);
  }

  /** How often a buffer's memory has moved or gone: what was recorded before may use memory that is no longer there. */
  uint64_t moves() const { return moves_; }

 private:
  void check_alive() const {
    require(!lost_, Code::ERR_DEVICE_LOST, "[backend] the device was lost; only a new process can use it again");
  }
  void check(int32_t code) {
    if (code == 0) return;
    lost_ = static_cast<Code>(code) == Code::ERR_DEVICE_LOST;
    throw Error(static_cast<Code>(code), lost_ ? "[backend] the device was lost" : api_.last_error(device_));
  }

  const BackendApi& api_;
  Device* device_ = nullptr;
  DeviceInfo info_{};
  std::chrono::milliseconds watchdog_;
  uint64_t moves_ = 0;
  bool lost_ = false;  // after which no function of the table is called
};

/** Device memory. Grows on demand and never shrinks: a workspace that one step after another uses. */
class Buffer {
 public:
  explicit Buffer(Backend& backend) : backend_(&backend) {}
  Buffer(Backend& backend, size_t bytes) : backend_(&backend) { reserve(bytes); }
  Buffer(Buffer&& other) noexcept
      : backend_(other.backend_), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(backend_, other.backend_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer() { release(); }

  /** At least `bytes` bytes; what was there is lost when it grows. */
  void* reserve(size_t bytes) {
    if (bytes > bytes_) {
      release();
      backend_->call(&BackendApi::allocate, bytes, &data_);
      bytes_ = bytes;
    }
    return data_;
  }
  /** Room for the values, and the values in it. */
  template <class T>
  T* upload(const std::vector<T>& values) {
    return upload(values.data(), values.size());
  }
  template <class T>
  T* upload(const T* values, size_t count) {
    void* to = reserve((count ? count : 1) * sizeof(T));
    if (count) backend_->call(&BackendApi::upload, to, static_cast<const void*>(values), count * sizeof(T));
    return static_cast<T*>(to);
  }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void release() {
    if (data_) backend_->release(data_);
    data_ = nullptr;
    bytes_ = 0;
  }

  Backend* backend_;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

/** A weight matrix on the device. */
class WeightRef {
 public:
  WeightRef(Backend& backend, const std::vector<WeightPart>& parts, WeightLayout layout) : backend_(&backend) {
    backend.call(&BackendApi::weight_import, parts.data(), static_cast<int32_t>(parts.size()), layout, &weight_);
  }
  WeightRef(WeightRef&& other) noexcept : backend_(other.backend_), weight_(std::exchange(other.weight_, nullptr)) {}
  WeightRef& operator=(WeightRef&&) = delete;
  ~WeightRef() {
    if (weight_) backend_->release(weight_);
  }
  const Weight* get() const { return weight_; }

 private:
  Backend* backend_;
  Weight* weight_ = nullptr;
};

}  // namespace himap
