// The seam between the engine and a device: one function per operation, one plain struct each (kernels/<op>/<op>.h).
//
// A backend is a shared library that exports `himap_backend`, which returns this table. Only plain C data crosses the
// line: no C++ type, no exception. Every function returns a Code (kOk = 0) and leaves a sentence in last_error().
// Calls on one device come from one thread and take effect in their order. Nothing but `download` waits, and the engine
// polls before it downloads, so that a device that hangs is noticed and never waited for. (An upload may wait, for a bounded
// time, until the device has read what was uploaded long before it.)
//
// ERR_DEVICE_LOST says that the device will not answer any more: no function is called again after it, not even release.
//
// "Activations" are in the device's own type: float on the CPU, a 16-bit type on a card. Buffers come from `allocate`; offsets and lengths are
// the engine's business, so pointers into a buffer are as good as its start.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention_decode/attention_decode.h"
#include "kernels/attention_prefill/attention_prefill.h"
#include "kernels/candidates/candidates.h"
#include "kernels/embed/embed.h"
#include "kernels/gather/gather.h"
#include "kernels/linear/linear.h"
#include "kernels/norm/norm.h"
#include "kernels/patch_embed/patch_embed.h"
#include "kernels/rope_kv/rope_kv.h"
#include "kernels/select/select.h"

namespace himap {

/** Raised with every change of a struct or of the table: a stale library is refused. */
constexpr uint32_t kBackendAbi = 5;

struct Device;

/** Operations that a device has recorded; made by BackendApi::graph_end. */
struct Graph;

struct DeviceOptions {
  int32_t threads;    // CPU worker threads; 0: one per processor
  DType activations;  // of a card: kF16 or kBF16, the type of its weights too; a CPU's are float whatever this says
};

/** DeviceInfo::image_batch of the CPU: enough rows to keep the weights' conversion cheap. */
constexpr int32_t kCpuImageBatch = 4;

struct DeviceInfo {
  char detail[64];  // the vector path of a CPU, the name of a card
  int32_t threads;
  int32_t activation_bytes;  // bytes of one activation
  int32_t head_dim_most;     // widest attention head that its kernels take
  int32_t graphs;            // 1: it records operations; 0: the functions of graphs are null
  int32_t image_batch;       // images that go through the vision tower together, at most
};

/** One part of a weight as it lies in a file: row-major (out, in), no alignment promised. */
struct WeightPart {
  const void* data;
  DType type;
  int64_t out;
  int64_t in;
};

enum class WeightLayout : int32_t {
  kStacked = 0,  // parts one below the other: y has the sum of their columns
  kGateUp = 1,   // two parts of one shape, gate and up, for Epilogue::kSwiGlu
};

// The operations: name and parameters (kernels/<name>/<name>.h). Backends declare and list theirs by this.
#define HIMAP_OPERATIONS(X)                                                                            \
  X(patch_embed, PatchEmbedParams) X(embed, EmbedParams) X(norm, NormParams) X(linear, LinearParams)    \
  X(logits, LogitsParams) X(rope_kv, RopeKvParams) X(attention_prefill, AttentionPrefillParams)         \
  X(attention_decode, AttentionDecodeParams) X(select, SelectParams) X(gather, GatherParams)            \
  X(candidates, CandidatesParams)

struct BackendApi {
  uint32_t abi;
  const char* name;

  /** kOk if the device can be used here; else the reason goes to `reason`. */
  int32_t (*probe)(char* reason, size_t reason_bytes, char* detail, size_t detail_bytes);
  /** Bytes of the device's memory that could be had now, and in all; ERR_INTERNAL where it cannot be told. */
  int32_t (*memory)(int64_t* free, int64_t* total);
  int32_t (*open)(const DeviceOptions* options, Device** device, DeviceInfo* info, char* reason, size_t reason_bytes);
  void (*close)(Device* device);
  const char* (*last_error)(Device* device);

  int32_t (*allocate)(Device* device, size_t bytes, void** buffer);  // committed when first touched
  void (*release)(Device* device, void* buffer);
  int32_t (*upload)(Device* device, void* to, const void* from, size_t bytes);
  int32_t (*download)(Device* device, void* to, const void* from, size_t bytes);
  int32_t (*copy)(Device* device, void* to, const void* from, size_t bytes);  // within the device; no overlap
  int32_t (*upload_activations)(Device* device, void* to, const float* from, int64_t elements);
  int32_t (*download_activations)(Device* device, float* to, const void* from, int64_t elements);
  int32_t (*poll)(Device* device, int32_t* idle);  // 1 in `idle` once everything asked for is done; never waits

  /** The parts' bytes stay valid until weight_release: a CPU uses them where they lie. */
  int32_t (*weight_import)(Device* device, const WeightPart* parts, int32_t n, WeightLayout layout, Weight** weight);
  void (*weight_release)(Device* device, Weight* weight);

  /** From here to graph_end operations are recorded instead of run, and no other function is called. */
  int32_t (*graph_begin)(Device* device);
  /** Ends the recording, also where it fails. `keep` 0: what was recorded is forgotten, and `graph` becomes null. */
  int32_t (*graph_end)(Device* device, int32_t keep, Graph** graph);
  /** Runs what was recorded. 0 in `launched`: memory of the device's own has moved since; nothing has run or ever will. */
  int32_t (*graph_launch)(Device* device, const Graph* graph, int32_t* launched);
  void (*graph_release)(Device* device, Graph* graph);

#define HIMAP_OPERATION(name, Params) int32_t (*name)(Device* device, const Params* params);
  HIMAP_OPERATIONS(HIMAP_OPERATION)
#undef HIMAP_OPERATION
};

}  // namespace himap

/** The one symbol that a backend's library exports. */
using HimapBackendFunction = const himap::BackendApi*();
constexpr const char* kBackendSymbol = "himap_backend";
