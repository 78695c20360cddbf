// What the backend asks of a card's runtime, and of the host's machine in its place: one stream, memory in its order,
// copies, marks. runtime_card.cu is CUDA's, runtime_host.cc the SIMT machine's; a library is linked with one of them.
//
// Everything but `Runtime::Runtime` and copy_to_host returns before the device has done it. What fails throws himap::Error:
// ERR_OUT_OF_MEMORY where memory is wanting, ERR_DEVICE_LOST where the device will not answer any more, else ERR_INTERNAL.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/device.h"
#include "native/core/status.h"

namespace himap {

/** Why the first device cannot be used, or "" and what it is called. */
std::string probe_device(std::string& detail);

/** Its free memory and its whole, in bytes. ERR_INTERNAL where it cannot be told. */
void device_memory(int64_t& free, int64_t& total);

class Runtime {
 public:
  Runtime();
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  device::Stream stream() const { return stream_; }

  void* allocate(size_t bytes);
  void release(void* memory);
  void zero(void* memory, size_t bytes);

  /** Host memory that the device can read while the host goes on. */
  void* allocate_pinned(size_t bytes);
  void release_pinned(void* memory);
  /** `from` is pinned and stays as it is until a later mark has passed. */
  void copy_to_device(void* to, const void* from, size_t bytes);
  void copy_within(void* to, const void* from, size_t bytes);
  /** Waits for the copy and for all that was asked for before. */
  void copy_to_host(void* to, const void* from, size_t bytes);

  /** A place in the stream: it has passed once all that was asked for before it is done. */
  struct Mark;
  Mark* make_mark();
  void release_mark(Mark* mark);
  void record(Mark* mark);
  bool passed(Mark* mark);
  bool idle();

  /** Launches recorded once, to be run by one call. */
  struct Graph;
  /** From here to end_recording launches are recorded and not run; nothing but launches may be asked for. */
  void begin_recording();
  /** Ends the recording, also when it throws; null where `keep` is false. */
  Graph* end_recording(bool keep);
  void launch(const Graph* graph);
  void release_graph(Graph* graph);
  bool recording() const { return recording_; }

  /** Throws what a launch or a call has returned, unless it is kNoError. */
  void check(device::DeviceError error, const char* where);

 private:
  device::Stream stream_{};
  bool recording_ = false;
};

}  // namespace himap
