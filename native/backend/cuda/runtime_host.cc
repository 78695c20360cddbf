// The SIMT machine as the backend's device: every launch is over when it returns, so there is nothing to wait for. Memory
// starts as NaN, which a card does not promise but which shows what nobody wrote.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "native/backend/cuda/runtime.h"

namespace himap {

struct Runtime::Mark {};

struct Runtime::Graph {
  device::Recording launches;
};

std::string probe_device(std::string& detail) {
  detail = "host SIMT machine";
  return "";
}

void device_memory(int64_t&, int64_t&) { fail(Code::ERR_INTERNAL, "[memory] the host SIMT machine has no memory of its own"); }

void Runtime::check(device::DeviceError error, const char* where) {
  if (error != device::kNoError) fail(Code::ERR_INTERNAL, std::string("[") + where + "] " + device::error_text(error));
}

Runtime::Runtime() : stream_(new device::HostStream) {}
Runtime::~Runtime() { delete stream_; }

void* Runtime::allocate(size_t bytes) {
  constexpr size_t kPoisonMost = 64 << 20;  // a pool is larger, and few of its pages are ever touched
  void* memory = nullptr;
  require(posix_memalign(&memory, 256, bytes) == 0, Code::ERR_OUT_OF_MEMORY,
          "[allocate] " + std::to_string(bytes) + " bytes could not be had");
  if (bytes <= kPoisonMost) std::memset(memory, 0xff, bytes);
  return memory;
}

void Runtime::release(void* memory) { std::free(memory); }
void Runtime::zero(void* memory, size_t bytes) { std::memset(memory, 0, bytes); }
void* Runtime::allocate_pinned(size_t bytes) { return allocate(bytes); }
void Runtime::release_pinned(void* memory) { std::free(memory); }
void Runtime::copy_to_device(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
void Runtime::copy_within(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
void Runtime::copy_to_host(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
Runtime::Mark* Runtime::make_mark() { return new Mark; }
void Runtime::release_mark(Mark* mark) { delete mark; }
void Runtime::record(Mark*) {}
bool Runtime::passed(Mark*) { return true; }
bool Runtime::idle() { return true; }

void Runtime::begin_recording() {
  recording_ = true;
  stream_->recording = std::make_unique<device::Recording>();
}

Runtime::Graph* Runtime::end_recording(bool keep) {
  recording_ = false;
  const std::unique_ptr<device::Recording> recorded = std::move(stream_->recording);
  if (!keep) return nullptr;
  // What a driver may do, for tests.
  const char* fault = std::getenv("HIMAP_SHIM_GRAPHS");
  require(!fault || std::strcmp(fault, "refuse") != 0, Code::ERR_OUT_OF_MEMORY, "[graph] no room was left for a graph");
  return new Graph{std::move(*recorded)};
}

void Runtime::launch(const Graph* graph) {
  for (const auto& launch : graph->launches) check(launch(), "graph");
}

void Runtime::release_graph(Graph* graph) { delete graph; }

}  // namespace himap
