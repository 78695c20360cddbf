#include <algorithm>

#include "bench/cuda/gpu.h"
#include "bench/cuda/read_kernel.cuh"
#include "native/backend/cuda/device.h"

namespace himap::bench {
namespace {

constexpr int kDevice = 0;  // the backend's
constexpr int32_t kReadBlocksPerMultiprocessor = 8;

void must(cudaError_t error, const char* what) {
  if (error != cudaSuccess) fail(Code::ERR_INTERNAL, std::string("[bench] ") + what + ": " + cudaGetErrorString(error));
}

std::string version_text(int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); }

cudaDeviceProp properties() {
  cudaDeviceProp found;
  must(cudaGetDeviceProperties(&found, kDevice), "the card's properties");
  return found;
}

}  // namespace

struct Gpu::State {
  Device* device;
  int32_t blocks;
  void* flush = nullptr;
  size_t flush_bytes = 0;
  uint32_t* sink = nullptr;
  std::vector<cudaEvent_t> events;

  cudaStream_t stream() const { return device->runtime.stream(); }
};

GpuFacts gpu_facts() {
  const cudaDeviceProp card = properties();
  int driver = 0;
  must(cudaDriverGetVersion(&driver), "the driver's version");
  return {card.name, card.multiProcessorCount, card.l2CacheSize, std::to_string(card.major) + "." + std::to_string(card.minor),
          version_text(driver), version_text(CUDART_VERSION)};
}

Gpu::Gpu(Device* device) : state_(new State{device, properties().multiProcessorCount * kReadBlocksPerMultiprocessor}) {
  state_->flush_bytes = std::max<size_t>(4 * static_cast<size_t>(properties().l2CacheSize), 64 << 20) / 16 * 16;
  must(cudaMalloc(&state_->flush, state_->flush_bytes), "memory to flush the cache with");
  must(cudaMalloc(reinterpret_cast<void**>(&state_->sink), sizeof(uint32_t)), "memory");
  must(cudaMemset(state_->flush, 0x5a, state_->flush_bytes), "memory");
  must(cudaDeviceSynchronize(), "memory");
}

Gpu::~Gpu() {
  for (const cudaEvent_t event : state_->events) cudaEventDestroy(event);
  cudaFree(state_->flush);
  cudaFree(state_->sink);
  delete state_;
}

void* Gpu::stream() const { return state_->stream(); }

void Gpu::read(const void* from, size_t bytes) {
  must(device::launch_read({static_cast<const unsigned char*>(from), static_cast<int64_t>(bytes), state_->sink}, state_->blocks,
                           state_->stream()),
       "a read");
}

std::vector<double> Gpu::times(int32_t warm, int32_t repeats, bool cold, const std::function<void()>& operation) {
  std::vector<cudaEvent_t>& events = state_->events;
  while (events.size() < static_cast<size_t>(2 * repeats)) must(cudaEventCreate(&events.emplace_back()), "an event");
  for (int32_t i = 0; i < warm; ++i) operation();
  for (int32_t i = 0; i < repeats; ++i) {
    if (cold) read(state_->flush, state_->flush_bytes);
    must(cudaEventRecord(events[static_cast<size_t>(2 * i)], state_->stream()), "an event");
    operation();
    must(cudaEventRecord(events[static_cast<size_t>(2 * i + 1)], state_->stream()), "an event");
  }
  must(cudaStreamSynchronize(state_->stream()), "what was measured");
  std::vector<double> microseconds;
  for (int32_t i = 0; i < repeats; ++i) {
    float milliseconds = 0;
    must(cudaEventElapsedTime(&milliseconds, events[static_cast<size_t>(2 * i)], events[static_cast<size_t>(2 * i + 1)]),
         "an event");
    microseconds.push_back(1e3 * static_cast<double>(milliseconds));
  }
  return microseconds;
}

}  // namespace himap::bench
