#include <chrono>

#include "bench/cuda/gpu.h"
#include "bench/cuda/read_kernel.cuh"
#include "native/core/status.h"

namespace himap::bench {

struct Gpu::State {
  std::vector<unsigned char> flush = std::vector<unsigned char>(4096);
  uint32_t sink = 0;
};

GpuFacts gpu_facts() { return {"host SIMT machine", 1, 4096, "none", "none", "none"}; }

Gpu::Gpu(Device*) : state_(new State) {}
Gpu::~Gpu() { delete state_; }

void* Gpu::stream() const { return nullptr; }

void Gpu::read(const void* from, size_t bytes) {
  const device::DeviceError error =
      device::launch_read({static_cast<const unsigned char*>(from), static_cast<int64_t>(bytes), &state_->sink}, 1, {});
  require(error == device::kNoError, Code::ERR_INTERNAL, std::string("[bench] a read: ") + device::error_text(error));
}

std::vector<double> Gpu::times(int32_t warm, int32_t repeats, bool cold, const std::function<void()>& operation) {
  using Clock = std::chrono::steady_clock;
  for (int32_t i = 0; i < warm; ++i) operation();
  std::vector<double> microseconds;
  for (int32_t i = 0; i < repeats; ++i) {
    if (cold) read(state_->flush.data(), state_->flush.size());
    const Clock::time_point start = Clock::now();
    operation();
    microseconds.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
  }
  return microseconds;
}

}  // namespace himap::bench
