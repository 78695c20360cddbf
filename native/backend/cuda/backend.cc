// The CUDA backend's table: the line where exceptions become codes. One source, two libraries: by nvcc for a card
// (libhimap-cuda.so), by the host's compiler on the SIMT machine (libhimap-shim.so, for tests).
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "kernels/attention_decode/launch_attention_decode.h"
#include "kernels/attention_prefill/launch_attention_prefill.h"
#include "native/backend/cuda/device.h"

namespace himap {
namespace {

/** Enough rows that even the widest tile of the tower's products meets whole waves of blocks; 32 take 0.4 GiB at 336 pixels. */
constexpr int32_t kImageBatch = 32;

/** What is no operation and would be lost in a recording, or spoil it. */
template <class Fn>
int32_t between_recordings(Device* device, const char* where, const Fn& fn) noexcept {
  return on_device(device, [&] {
    require(!device->runtime.recording(), Code::ERR_INTERNAL, std::string("[") + where + "] only operations can be recorded");
    fn();
  });
}

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
    const char* fault = linear_family_fault();
    require(!fault, Code::ERR_INVALID_ARG, std::string("[open] ") + (fault ? fault : ""));
    *device = std::make_unique<Device>(options->activations).release();
    if (!info) return;
    copy_text(info->detail, sizeof(info->detail), name.c_str());
    info->threads = 1;
    info->activation_bytes = sizeof(uint16_t);
    info->head_dim_most = std::min(kPrefillHeadDimMost, kDecodeHeadDimMost);
    // For measuring what they save.
    const char* graphs = std::getenv("HIMAP_CUDA_GRAPHS");
    info->graphs = !graphs || std::strcmp(graphs, "off") != 0;
    info->image_batch = kImageBatch;
  });
}

/** A device that was lost is left where it is: taking it apart would ask its runtime. */
void close(Device* device) {
  if (device && !device->lost) delete device;
}

const char* last_error(Device* device) { return error_of(device); }

int32_t allocate(Device* device, size_t bytes, void** buffer) {
  return between_recordings(device, "allocate", [&] {
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
  return between_recordings(device, "upload", [&] { upload(*device, to, from, bytes); });
}

int32_t download_bytes(Device* device, void* to, const void* from, size_t bytes) {
  return between_recordings(device, "download", [&] {
    if (bytes == 0) return;
    check_pointer(to, "download", "to");
    check_pointer(from, "download", "from");
    device->runtime.copy_to_host(to, from, bytes);
  });
}

int32_t copy_bytes(Device* device, void* to, const void* from, size_t bytes) {
  return between_recordings(device, "copy", [&] {
    if (bytes == 0) return;
    check_pointer(to, "copy", "to");
    check_pointer(from, "copy", "from");
    device->runtime.copy_within(to, from, bytes);
  });
}

int32_t upload_floats(Device* device, void* to, const float* from, int64_t elements) {
  return between_recordings(device, "upload", [&] { upload_activations(*device, to, from, elements); });
}

int32_t download_floats(Device* device, float* to, const void* from, int64_t elements) {
  return between_recordings(device, "download", [&] { download_activations(*device, to, from, elements); });
}

int32_t poll(Device* device, int32_t* idle) {
  return between_recordings(device, "poll", [&] {
    check_pointer(idle, "poll", "idle");
    *idle = device->runtime.idle();
  });
}

int32_t weight_import(Device* device, const WeightPart* parts, int32_t n, WeightLayout layout, Weight** weight) {
  return between_recordings(device, "weight_import", [&] {
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

int32_t graph_begin(Device* device) {
  return between_recordings(device, "graph_begin", [&] { device->runtime.begin_recording(); });
}

int32_t graph_end(Device* device, int32_t keep, Graph** graph) {
  return on_device(device, [&] {
    check_pointer(graph, "graph_end", "graph");
    *graph = nullptr;
    require(device->runtime.recording(), Code::ERR_INTERNAL, "[graph_end] nothing is being recorded");
    auto made = std::make_unique<Graph>(Graph{nullptr, device->moves});
    made->launches = device->runtime.end_recording(keep != 0);
    if (made->launches) *graph = made.release();
  });
}

int32_t graph_launch(Device* device, const Graph* graph, int32_t* launched) {
  return between_recordings(device, "graph_launch", [&] {
    check_pointer(graph, "graph_launch", "graph");
    check_pointer(launched, "graph_launch", "launched");
    *launched = graph->moves == device->moves;
    if (*launched) device->runtime.launch(graph->launches);
  });
}

void graph_release(Device* device, Graph* graph) {
  if (!device || !graph || device->lost) return;
  device->runtime.release_graph(graph->launches);
  delete graph;
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
    .graph_begin = graph_begin,
    .graph_end = graph_end,
    .graph_launch = graph_launch,
    .graph_release = graph_release,
#define HIMAP_OPERATION(name, Params) .name = entry<Device, Params, name>,
    HIMAP_OPERATIONS(HIMAP_OPERATION)
#undef HIMAP_OPERATION
};

}  // namespace
}  // namespace himap

extern "C" __attribute__((visibility("default"))) const himap::BackendApi* himap_backend() { return &himap::kApi; }
