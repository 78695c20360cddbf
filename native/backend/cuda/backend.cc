// The CUDA backend's table: the line where exceptions become codes. One source, two libraries: by nvcc for a card
// (libhimap-cuda.so), by the host's compiler on the SIMT machine (libhimap-shim.so, for tests).
#include <algorithm>
#include <memory>

#include "kernels/attention_decode/launch_attention_decode.h"
#include "kernels/attention_prefill/launch_attention_prefill.h"
#include "native/backend/cuda/device.h"

namespace himap {
namespace {

int32_t probe(char* reason, size_t reason_bytes, char* detail, size_t detail_bytes) {
  return guarded(reason, reason_bytes, [&] {
    std::string name;
    const std::string why = probe_device(name);
    require(why.empty(), Code::ERR_NO_BINARY, why);
    copy_text(detail, detail_bytes, name.c_str());
  });
}

int32_t memory(int64_t* free, int64_t* total) {
  return guarded(nullptr, 0, [&] {
    check_pointer(free, "memory", "free");
    check_pointer(total, "memory", "total");
    device_memory(*free, *total);
  });
}

int32_t open(const DeviceOptions* options, Device** device, DeviceInfo* info, char* reason, size_t reason_bytes) {
  return guarded(reason, reason_bytes, [&] {
    check_pointer(device, "open", "device");
    *device = nullptr;
    check_pointer(options, "open", "options");
    check(options->activations == DType::kF16 || options->activations == DType::kBF16, "open", "activations must be 1 or 2",
          static_cast<int32_t>(options->activations));
    std::string name;
    const std::string why = probe_device(name);
    require(why.empty(), Code::ERR_NO_BINARY, "[open] " + why);
    *device = std::make_unique<Device>(options->activations).release();
    if (!info) return;
    copy_text(info->detail, sizeof(info->detail), name.c_str());
    info->threads = 1;
    info->activation_bytes = sizeof(uint16_t);
    info->head_dim_most = std::min(kPrefillHeadDimMost, kDecodeHeadDimMost);
  });
}

/** A device that was lost is left where it is: taking it apart would ask its runtime. */
void close(Device* device) {
  if (device && !device->lost) delete device;
}

const char* last_error(Device* device) { return error_of(device); }

int32_t allocate(Device* device, size_t bytes, void** buffer) {
  return on_device(device, [&] {
    check_pointer(buffer, "allocate", "buffer");
    *buffer = nullptr;
    check(bytes > 0 && bytes <= PTRDIFF_MAX, "allocate", "bytes must be positive and addressable", static_cast<int64_t>(bytes));
    void* memory = device->runtime.allocate(bytes);
    device->buffers.insert(memory);
    *buffer = memory;
  });
}

void release(Device* device, void* buffer) {
  if (device && !device->lost && device->buffers.erase(buffer)) device->runtime.release(buffer);
}

int32_t upload_bytes(Device* device, void* to, const void* from, size_t bytes) {
  return on_device(device, [&] { upload(*device, to, from, bytes); });
}

int32_t download_bytes(Device* device, void* to, const void* from, size_t bytes) {
  return on_device(device, [&] {
    if (bytes == 0) return;
    check_pointer(to, "download", "to");
    check_pointer(from, "download", "from");
    device->runtime.copy_to_host(to, from, bytes);
  });
}

int32_t copy_bytes(Device* device, void* to, const void* from, size_t bytes) {
  return on_device(device, [&] {
    if (bytes == 0) return;
    check_pointer(to, "copy", "to");
    check_pointer(from, "copy", "from");
    device->runtime.copy_within(to, from, bytes);
  });
}

int32_t upload_floats(Device* device, void* to, const float* from, int64_t elements) {
  return on_device(device, [&] { upload_activations(*device, to, from, elements); });
}

int32_t download_floats(Device* device, float* to, const void* from, int64_t elements) {
  return on_device(device, [&] { download_activations(*device, to, from, elements); });
}

int32_t poll(Device* device, int32_t* idle) {
  return on_device(device, [&] {
    check_pointer(idle, "poll", "idle");
    *idle = device->runtime.idle();
  });
}

int32_t weight_import(Device* device, const WeightPart* parts, int32_t n, WeightLayout layout, Weight** weight) {
  return on_device(device, [&] {
    check_pointer(weight, "weight_import", "weight");
    *weight = nullptr;
    *weight = import_weight(*device, parts, n, layout);
  });
}

void weight_release(Device* device, Weight* weight) {
  if (!device || !weight || device->lost) return;
  device->runtime.release(const_cast<void*>(weight->image.data));
  delete weight;
}

constexpr BackendApi kApi = {
    .abi = kBackendAbi,
    .name = "cuda",
    .probe = probe,
    .memory = memory,
    .open = open,
    .close = close,
    .last_error = last_error,
    .allocate = allocate,
    .release = release,
    .upload = upload_bytes,
    .download = download_bytes,
    .copy = copy_bytes,
    .upload_activations = upload_floats,
    .download_activations = download_floats,
    .poll = poll,
    .weight_import = weight_import,
    .weight_release = weight_release,
#define HIMAP_OPERATION(name, Params) .name = entry<Device, Params, name>,
    HIMAP_OPERATIONS(HIMAP_OPERATION)
#undef HIMAP_OPERATION
};

}  // namespace
}  // namespace himap

extern "C" __attribute__((visibility("default"))) const himap::BackendApi* himap_backend() { return &himap::kApi; }
