// The CPU backend's table: opening, memory, weights, and the line where exceptions become codes.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <system_error>

#include "native/backend/cpu/choose.h"
#include "native/backend/cpu/device.h"
#include "native/backend/cpu/weight.h"

namespace himap {
namespace {

constexpr int32_t kMaxThreads = 1024;

int32_t probe(char* reason, size_t reason_bytes, char* detail, size_t detail_bytes) {
  return guarded(reason, reason_bytes, [&] { copy_text(detail, detail_bytes, choose_kernels().name); });
}

int32_t memory(int64_t* free, int64_t* total) {
  return guarded(nullptr, 0, [&] {
    check_pointer(free, "memory", "free");
    check_pointer(total, "memory", "total");
    system_memory(*free, *total);
  });
}

int32_t open(const DeviceOptions* options, Device** device, DeviceInfo* info, char* reason, size_t reason_bytes) {
  return guarded(reason, reason_bytes, [&] {
    check_pointer(device, "open", "device");
    *device = nullptr;
    const int32_t wanted = options ? options->threads : 0;
    check(wanted >= 0 && wanted <= kMaxThreads, "open", "threads must be 0 (one per processor) to 1024", wanted);
    const CpuKernels& kernels = choose_kernels();
    const int32_t threads = wanted > 0 ? wanted : std::min(system_processors(), kMaxThreads);
    try {
      *device = new Device(kernels, wants_prefetch(), threads);
    } catch (const std::system_error&) {
      fail(Code::ERR_OUT_OF_MEMORY, "[open] the system refused to start " + std::to_string(threads) + " threads");
    }
    if (info) {
      copy_text(info->detail, sizeof(info->detail), kernels.name);
      info->threads = threads;
      info->activation_bytes = sizeof(float);
      info->head_dim_most = INT32_MAX;
      info->graphs = 0;
      info->image_batch = kCpuImageBatch;
    }
  });
}

void release(Device* device, void* buffer) {
  if (!device || !buffer) return;
  const auto found = device->buffers.find(buffer);
  if (found == device->buffers.end()) return;
  munmap(buffer, found->second);
  device->buffers.erase(found);
}

void close(Device* device) {
  if (!device) return;
  for (const auto& [buffer, bytes] : device->buffers) munmap(buffer, bytes);
  delete device;
}

const char* last_error(Device* device) { return error_of(device); }

int32_t allocate(Device* device, size_t bytes, void** buffer) {
  return on_device(device, [&] {
    check_pointer(buffer, "allocate", "buffer");
    *buffer = nullptr;
    check(bytes > 0 && bytes <= PTRDIFF_MAX, "allocate", "bytes must be positive and addressable", static_cast<int64_t>(bytes));
    // Pages come when they are first touched, so that a large pool costs what is used of it.
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      fail(Code::ERR_OUT_OF_MEMORY, "[allocate] the system must give " + std::to_string(bytes) + " bytes; it refused");
    }
    try {
      device->buffers.emplace(memory, bytes);
    } catch (...) {
      munmap(memory, bytes);
      throw;
    }
    *buffer = memory;
  });
}

int32_t copy(Device* device, void* to, const void* from, size_t bytes) {
  return on_device(device, [&] {
    if (bytes == 0) return;
    check_pointer(to, "copy", "to");
    check_pointer(from, "copy", "from");
    std::memmove(to, from, bytes);
  });
}

int32_t copy_floats(Device* device, void* to, const void* from, int64_t elements) {
  return on_device(device, [&] {
    check(elements >= 0, "copy", "elements must be at least 0", elements);
    if (elements == 0) return;
    check_pointer(to, "copy", "to");
    check_pointer(from, "copy", "from");
    std::memmove(to, from, static_cast<size_t>(elements) * sizeof(float));
  });
}

int32_t upload_activations(Device* device, void* to, const float* from, int64_t elements) {
  return copy_floats(device, to, from, elements);
}

int32_t download_activations(Device* device, float* to, const void* from, int64_t elements) {
  return copy_floats(device, to, from, elements);
}

/** Every operation here has ended when its function returns. */
int32_t poll(Device* device, int32_t* idle) {
  return on_device(device, [&] {
    check_pointer(idle, "poll", "idle");
    *idle = 1;
  });
}

int32_t weight_import(Device* device, const WeightPart* parts, int32_t n, WeightLayout layout, Weight** weight) {
  return on_device(device, [&] {
    constexpr const char* kWhere = "weight_import";
    check_pointer(weight, kWhere, "weight");
    *weight = nullptr;
    check_pointer(parts, kWhere, "parts");
    check(n > 0, kWhere, "parts must be at least 1", n);
    check(layout == WeightLayout::kStacked || layout == WeightLayout::kGateUp, kWhere, "layout must be 0 or 1",
          static_cast<int32_t>(layout));
    auto made = std::make_unique<Weight>();
    made->parts.assign(parts, parts + n);
    made->layout = layout;
    made->in = parts[0].in;
    made->out = 0;
    for (const WeightPart& part : made->parts) {
      check_pointer(part.data, kWhere, "data");
      const auto type = static_cast<int32_t>(part.type);
      check(type >= 0 && type <= static_cast<int32_t>(DType::kBF16), kWhere, "type must be 0 to 2", type);
      check(part.out > 0 && part.out <= INT32_MAX, kWhere, "out must be 1 to 2^31 - 1", part.out);
      check(part.in > 0 && part.in <= INT32_MAX, kWhere, "in must be 1 to 2^31 - 1", part.in);
      check(part.in == made->in, kWhere, "parts must be equally wide", part.in);
      made->out += part.out;
    }
    if (layout == WeightLayout::kGateUp) {
      check(n == 2, kWhere, "gate and up are two parts", n);
      check(parts[0].out == parts[1].out, kWhere, "gate and up must have as many rows", parts[1].out);
    }
    *weight = made.release();
  });
}

void weight_release(Device*, Weight* weight) { delete weight; }

constexpr BackendApi kApi = {
    .abi = kBackendAbi,
    .name = "cpu",
    .probe = probe,
    .memory = memory,
    .open = open,
    .close = close,
    .last_error = last_error,
    .allocate = allocate,
    .release = release,
    .upload = copy,
    .download = copy,
    .copy = copy,
    .upload_activations = upload_activations,
    .download_activations = download_activations,
    .poll = poll,
    .weight_import = weight_import,
    .weight_release = weight_release,
    .graph_begin = nullptr,  // a call costs less than what a graph would save
    .graph_end = nullptr,
    .graph_launch = nullptr,
    .graph_release = nullptr,
#define HIMAP_OPERATION(name, Params) .name = entry<Device, Params, name>,
    HIMAP_OPERATIONS(HIMAP_OPERATION)
#undef HIMAP_OPERATION
};

}  // namespace
}  // namespace himap

extern "C" __attribute__((visibility("default"))) const himap::BackendApi* himap_backend() { return &himap::kApi; }
