// One open device of the CUDA backend: its stream, its staging memory, its workspaces and its last error.
#pragma once

#include <chrono>
#include <set>
#include <string>
#include <utility>

#include "kernels/linear/launch_linear.h"
#include "native/backend/cuda/runtime.h"
#include "native/backend/table.h"

namespace himap {

/** Memory of the device that grows to the largest that was asked for; its contents are lost when it grows. */
class Workspace {
 public:
  /** `moves` counts how often memory moves that a recorded graph may use. */
  Workspace(Runtime& runtime, uint64_t& moves) : runtime_(runtime), moves_(moves) {}
  ~Workspace() { clear(); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  /** `zeroed`: the memory is zero when it is new. */
  template <class T>
  T* reserve(int64_t elements, bool zeroed = false) {
    const size_t bytes = static_cast<size_t>(elements) * sizeof(T);
    if (bytes > bytes_) {
      require(!runtime_.recording(), Code::ERR_INTERNAL, "[graph] a workspace must not grow while operations are recorded");
      clear();
      ++moves_;
      memory_ = runtime_.allocate(bytes);
      bytes_ = bytes;
      if (zeroed) runtime_.zero(memory_, bytes);
    }
    return static_cast<T*>(memory_);
  }

 private:
  void clear() {
    if (memory_) runtime_.release(std::exchange(memory_, nullptr));
    bytes_ = 0;
  }

  Runtime& runtime_;
  uint64_t& moves_;
  void* memory_ = nullptr;
  size_t bytes_ = 0;
};

/**
 * Pinned memory that uploads pass through, so that the caller's bytes are free at once and nobody waits: slots taken in
 * turn, each used again when the device has read it. Where it has not, the caller waits at most kPatience.
 */
class Staging {
 public:
  static constexpr size_t kSlotBytes = size_t{4} << 20;
  static constexpr std::chrono::seconds kPatience{60};

  explicit Staging(Runtime& runtime);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /** Room for `bytes` (at most kSlotBytes) of pinned memory, valid until the next call; to be copied from at once. */
  void* room(size_t bytes);

 private:
  static constexpr int32_t kSlots = 4;
  struct Slot {
    unsigned char* memory = nullptr;
    Runtime::Mark* mark = nullptr;
  };

  Runtime& runtime_;
  Slot slots_[kSlots];
  int32_t current_ = 0;
  size_t used_ = 0;  // of the current slot
};

struct Device : DeviceBase {
  explicit Device(DType activations)
      : type(activations), staging(runtime), rows(runtime, moves), partials(runtime, moves), attention_partials(runtime, moves),
        attention_arrivals(runtime, moves), arrivals(runtime, moves) {
    linear_workspace = {partials.reserve<float>(kLinearPartials), arrivals.reserve<uint32_t>(kLinearArrivals, true)};
  }
  ~Device() {
    for (void* buffer : buffers) runtime.release(buffer);
  }

  const DType type;  // of activations and weights: kF16 or kBF16
  Runtime runtime;
  uint64_t moves = 0;  // of workspaces
  Staging staging;
  Workspace rows;  // patches, and parts of weights on their way
  Workspace partials, attention_partials, attention_arrivals, arrivals;
  LinearWorkspace linear_workspace{};
  std::set<void*> buffers;
};

/** Operations recorded by graph_begin and graph_end. */
struct Graph {
  Runtime::Graph* launches;
  uint64_t moves;  // of the device's workspaces when they were recorded
};

/** A weight on the device. */
struct Weight {
  WeightImage image;
};

// memory.cc
void upload(Device& device, void* to, const void* from, size_t bytes);
void upload_activations(Device& device, void* to, const float* from, int64_t elements);
void download_activations(Device& device, float* to, const void* from, int64_t elements);
Weight* import_weight(Device& device, const WeightPart* parts, int32_t n, WeightLayout layout);

// operations.cc, one function each. What lies in device memory is not looked at: lists of indices are the engine's word.
#define HIMAP_OPERATION(name, Params) void name(Device& device, const Params& params);
HIMAP_OPERATIONS(HIMAP_OPERATION)
#undef HIMAP_OPERATION

}  // namespace himap
