#include <cstdio>

#include "native/backend/cuda/runtime.h"

namespace himap {
namespace {

constexpr int kDevice = 0;
constexpr int kLeastMajor = 8;

std::string version_text(int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); }

}  // namespace

struct Runtime::Mark {
  cudaEvent_t event;
};

struct Runtime::Graph {
  cudaGraphExec_t executable;
};

std::string probe_device(std::string& detail) {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) return "no NVIDIA driver was found on this machine";
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver) {
    return "the NVIDIA driver must support CUDA " + version_text(CUDART_VERSION) + "; it supports " + version_text(driver);
  }
  if (error != cudaSuccess) return std::string("CUDA could not start: ") + cudaGetErrorString(error);
  if (count == 0) return "the NVIDIA driver lists no card";
  cudaDeviceProp properties;
  const cudaError_t unknown = cudaGetDeviceProperties(&properties, kDevice);
  if (unknown != cudaSuccess) return std::string("the card could not be asked: ") + cudaGetErrorString(unknown);
  if (properties.major < kLeastMajor) {
    return std::string(properties.name) + " must have compute capability 8.0 or more; it has " + std::to_string(properties.major) + "." +
           std::to_string(properties.minor);
  }
  detail = properties.name;
  return "";
}

void device_memory(int64_t& free, int64_t& total) {
  size_t bytes_free = 0;
  size_t bytes = 0;
  // What the pool keeps for the next allocation counts as taken by the driver, and is free to us.
  cudaMemPool_t pool;
  uint64_t reserved = 0;
  uint64_t used = 0;
  cudaError_t error = cudaSetDevice(kDevice);
  if (error == cudaSuccess) error = cudaMemGetInfo(&bytes_free, &bytes);
  if (error == cudaSuccess) error = cudaDeviceGetDefaultMemPool(&pool, kDevice);
  if (error == cudaSuccess) error = cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved);
  if (error == cudaSuccess) error = cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used);
  require(error == cudaSuccess, Code::ERR_INTERNAL, std::string("[memory] the card could not be asked: ") + cudaGetErrorString(error));
  free = static_cast<int64_t>(bytes_free + (reserved - used));
  total = static_cast<int64_t>(bytes);
}

void Runtime::check(device::DeviceError error, const char* where) {
  if (error == cudaSuccess) return;
  const std::string text = std::string("[") + where + "] CUDA reports " + cudaGetErrorName(error) + ": " + cudaGetErrorString(error);
  cudaGetLastError();  // takes an error that does not stick
  // A stream that records cannot be asked, and nothing of what it records has run.
  const cudaError_t left = stream_ && !recording_ ? cudaStreamQuery(stream_) : cudaSuccess;
  if (left != cudaSuccess && left != cudaErrorNotReady) fail(Code::ERR_DEVICE_LOST, text);
  fail(error == cudaErrorMemoryAllocation ? Code::ERR_OUT_OF_MEMORY : Code::ERR_INTERNAL, text);
}

Runtime::Runtime() {
  check(cudaSetDevice(kDevice), "open");
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "open");
  // Memory that was given back is kept for the next allocation, as buffers grow in the middle of a step; it goes back to the
  // driver when an engine closes.
  cudaMemPool_t pool;
  check(cudaDeviceGetDefaultMemPool(&pool, kDevice), "open");
  uint64_t kept = UINT64_MAX;
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept), "open");
}

Runtime::~Runtime() {
  if (!stream_) return;
  cudaStreamSynchronize(stream_);  // what is freed on it is free only then
  cudaStreamDestroy(stream_);
  cudaMemPool_t pool;
  if (cudaDeviceGetDefaultMemPool(&pool, kDevice) == cudaSuccess) cudaMemPoolTrimTo(pool, 0);
}

void* Runtime::allocate(size_t bytes) {
  void* memory = nullptr;
  check(cudaMallocAsync(&memory, bytes, stream_), "allocate");
  return memory;
}

void Runtime::release(void* memory) { cudaFreeAsync(memory, stream_); }

void Runtime::zero(void* memory, size_t bytes) { check(cudaMemsetAsync(memory, 0, bytes, stream_), "zero"); }

void* Runtime::allocate_pinned(size_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, bytes), "allocate");
  return memory;
}

void Runtime::release_pinned(void* memory) { cudaFreeHost(memory); }

void Runtime::copy_to_device(void* to, const void* from, size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "upload");
}

void Runtime::copy_within(void* to, const void* from, size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_), "copy");
}

void Runtime::copy_to_host(void* to, const void* from, size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "download");
  check(cudaStreamSynchronize(stream_), "download");
}

Runtime::Mark* Runtime::make_mark() {
  Mark mark{};
  check(cudaEventCreateWithFlags(&mark.event, cudaEventDisableTiming), "open");
  return new Mark(mark);
}

void Runtime::release_mark(Mark* mark) {
  cudaEventDestroy(mark->event);
  delete mark;
}

void Runtime::record(Mark* mark) { check(cudaEventRecord(mark->event, stream_), "upload"); }

bool Runtime::passed(Mark* mark) {
  const cudaError_t state = cudaEventQuery(mark->event);
  if (state == cudaErrorNotReady) return false;
  check(state, "upload");
  return true;
}

void Runtime::begin_recording() {
  check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "graph");
  recording_ = true;
}

Runtime::Graph* Runtime::end_recording(bool keep) {
  recording_ = false;
  cudaGraph_t recorded = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream_, &recorded);
  cudaGraphExec_t executable = nullptr;
  const cudaError_t error = ended != cudaSuccess || !keep ? ended : cudaGraphInstantiate(&executable, recorded, 0);
  if (recorded) cudaGraphDestroy(recorded);
  if (!keep) {
    cudaGetLastError();  // the recording that is forgotten may have failed
    return nullptr;
  }
  check(error, "graph");
  return new Graph{executable};
}

void Runtime::launch(const Graph* graph) { check(cudaGraphLaunch(graph->executable, stream_), "graph"); }

void Runtime::release_graph(Graph* graph) {
  cudaGraphExecDestroy(graph->executable);
  delete graph;
}

bool Runtime::idle() {
  const cudaError_t state = cudaStreamQuery(stream_);
  if (state == cudaErrorNotReady) return false;
  check(state, "poll");
  return true;
}

}  // namespace himap
