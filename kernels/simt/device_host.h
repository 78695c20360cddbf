// The host's half of kernels/device.h: each wrapper with the meaning that the card gives it.
#pragma once

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/device_types.h"
#include "kernels/float16.h"
#include "kernels/simt/thread.h"
#include "kernels/simt/twins.h"

#define HIMAP_KERNEL(threads, blocks) [[maybe_unused]] static void
#define HIMAP_PARAMS(type) const type
#define HIMAP_DEVICE inline
#define HIMAP_UNROLL
#define HIMAP_ROLLED

namespace himap::device {

enum class DeviceError : int32_t { kNone = 0, kLaunchFailed = 1 };
constexpr DeviceError kNoError = DeviceError::kNone;

/** Of the last failed launch on this OS thread. */
const char* error_text(DeviceError error);

/** The error of a call that no card would take. */
DeviceError refused(const char* text);

/** Launches in the order in which they were asked for, each with its own copy of its parameters. */
using Recording = std::vector<std::function<DeviceError()>>;

/** A launch is over when launch() returns, unless its stream is recording. */
struct HostStream {
  std::unique_ptr<Recording> recording;
};
using Stream = HostStream*;

struct LaunchShape {
  const char* name;
  Dim3 grid;
  int32_t threads;
  size_t shared_bytes;
  Stream stream;
};

DeviceError launch_body(const LaunchShape& shape, void (*body)(const void*), const void* argument);

template <class Params>
DeviceError launch(void (*kernel)(Params), const LaunchShape& shape, const Params& params) {
  struct Call {
    void (*kernel)(Params);
    const Params& params;
  };
  if (shape.stream && shape.stream->recording) {
    LaunchShape later = shape;
    later.stream = nullptr;
    shape.stream->recording->push_back([kernel, later, params] { return launch(kernel, later, params); });
    return kNoError;
  }
  const Call call{kernel, params};
  const auto body = [](const void* argument) {
    const Call& run = *static_cast<const Call*>(argument);
    run.kernel(run.params);
  };
  return launch_body(shape, body, &call);
}

HIMAP_DEVICE int32_t thread_id() { return simt::current->thread; }
HIMAP_DEVICE int32_t block_threads() { return simt::current->block_threads; }
HIMAP_DEVICE int32_t block_x() { return static_cast<int32_t>(simt::current->block.x); }
HIMAP_DEVICE int32_t block_y() { return static_cast<int32_t>(simt::current->block.y); }
HIMAP_DEVICE int32_t block_z() { return static_cast<int32_t>(simt::current->block.z); }
HIMAP_DEVICE int32_t grid_x() { return static_cast<int32_t>(simt::current->grid.x); }
HIMAP_DEVICE int32_t grid_y() { return static_cast<int32_t>(simt::current->grid.y); }
HIMAP_DEVICE int32_t grid_z() { return static_cast<int32_t>(simt::current->grid.z); }

template <class T>
HIMAP_DEVICE T& shared_struct(Place place = Place::here()) {
  if (sizeof(T) > simt::current->shared_bytes) simt::fail("the shared struct is larger than the launch's shared memory", place);
  return *reinterpret_cast<T*>(simt::current->shared);
}

template <class T>
HIMAP_DEVICE T* shared_array() {
  return reinterpret_cast<T*>(simt::current->shared);
}

HIMAP_DEVICE void sync_threads(Place place = Place::here()) { simt::block_barrier(place); }

HIMAP_DEVICE void sync_warp(Place place = Place::here()) { simt::warp_meet("sync_warp", simt::warp_nothing, nullptr, place); }

template <class T>
HIMAP_DEVICE T shuffle_by(simt::WarpOperation* operation, T value, int32_t argument, const char* name, Place place) {
  static_assert(sizeof(T) == 4, "a shuffle moves one 32-bit register");
  simt::Shuffle lane{0, 0, argument};
  std::memcpy(&lane.value, &value, sizeof value);
  simt::warp_meet(name, operation, &lane, place);
  std::memcpy(&value, &lane.result, sizeof value);
  return value;
}
template <class T>
HIMAP_DEVICE T shuffle(T value, int32_t lane, Place place = Place::here()) {
  return shuffle_by(simt::warp_shuffle, value, lane, "shuffle", place);
}
template <class T>
HIMAP_DEVICE T shuffle_xor(T value, int32_t distance, Place place = Place::here()) {
  return shuffle_by(simt::warp_shuffle_xor, value, distance, "shuffle_xor", place);
}
template <class T>
HIMAP_DEVICE T shuffle_up(T value, int32_t distance, Place place = Place::here()) {
  return shuffle_by(simt::warp_shuffle_up, value, distance, "shuffle_up", place);
}
template <class T>
HIMAP_DEVICE T shuffle_down(T value, int32_t distance, Place place = Place::here()) {
  return shuffle_by(simt::warp_shuffle_down, value, distance, "shuffle_down", place);
}
HIMAP_DEVICE uint32_t ballot(bool value, Place place = Place::here()) {
  return shuffle_by(simt::warp_ballot, uint32_t{value}, 0, "ballot", place);
}

template <class T>
HIMAP_DEVICE void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Place place = Place::here()) {
  simt::Mma lane{d, a, b};
  simt::warp_meet("mma_m16n8k16", simt::warp_mma_m16n8k16<T>, &lane, place);
}

template <class Operation>
HIMAP_DEVICE void load_matrix(uint32_t (&r)[4], const void* row, Operation* operation, const char* name, Place place) {
  simt::check_shared(row, 16, place);
  // Each lane reads its own row, so that the sanitizers see who read what.
  simt::LoadMatrix lane{*static_cast<const Vec16*>(row), r};
  simt::warp_meet(name, operation, &lane, place);
}
HIMAP_DEVICE void load_matrix_x4(uint32_t (&r)[4], const void* row, Place place = Place::here()) {
  load_matrix(r, row, simt::warp_load_matrix_x4, "load_matrix_x4", place);
}
HIMAP_DEVICE void load_matrix_x4_trans(uint32_t (&r)[4], const void* row, Place place = Place::here()) {
  load_matrix(r, row, simt::warp_load_matrix_x4_trans, "load_matrix_x4_trans", place);
}

HIMAP_DEVICE void copy_async_16(void* to, const void* from, int32_t bytes, Place place = Place::here()) {
  const auto run = [](const simt::Copy& copy) {
    auto* bytes_to = static_cast<unsigned char*>(copy.to);
    const auto* bytes_from = static_cast<const unsigned char*>(copy.from);
    for (int32_t i = 0; i < 16; ++i) bytes_to[i] = i < copy.bytes ? bytes_from[i] : 0;
  };
  simt::copy_async({to, from, bytes, run}, place);
}
HIMAP_DEVICE void copy_async_commit() { simt::copy_async_commit(); }
template <int32_t kPending>
HIMAP_DEVICE void copy_async_wait() {
  simt::copy_async_wait(kPending);
}

HIMAP_DEVICE void prefetch(const void*) {}
HIMAP_DEVICE Vec16 load_stream_16(const void* from) { return *static_cast<const Vec16*>(from); }

HIMAP_DEVICE float exp2_approx(float x) { return std::exp2(x); }
HIMAP_DEVICE float log2_approx(float x) { return std::log2(x); }
HIMAP_DEVICE float rsqrt_approx(float x) { return 1.0f / std::sqrt(x); }

HIMAP_DEVICE int32_t atomic_add(int32_t* to, int32_t value) { return __atomic_fetch_add(to, value, __ATOMIC_RELAXED); }
HIMAP_DEVICE uint32_t atomic_add(uint32_t* to, uint32_t value) { return __atomic_fetch_add(to, value, __ATOMIC_RELAXED); }
HIMAP_DEVICE uint32_t atomic_add_ordered(uint32_t* to, uint32_t value) { return __atomic_fetch_add(to, value, __ATOMIC_ACQ_REL); }

HIMAP_DEVICE int32_t popcount(uint32_t bits) { return __builtin_popcount(bits); }

}  // namespace himap::device

#include "kernels/simt/sm90_host.h"
