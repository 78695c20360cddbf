// A backend that fails on purpose: the CPU's, with its Nth operation turned into a fault. It proves on any machine what
// the engine does when a card runs out of memory, refuses a launch, is lost, hangs, or computes nonsense. Tests only; not
// shipped.
//
//   HIMAP_FAULT="N KIND"   read at open; N counts from 1 over allocations and operations; KIND is oom, launch, lost,
//                          hang (the device never becomes idle again) or nan (the result is poisoned)
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <string>

#include "native/backend/ops.h"
#include "native/core/status.h"

namespace himap {
namespace {

enum class Kind { kNone, kOom, kLaunch, kLost, kHang, kNan };

struct Plan {
  int64_t at = 0;
  Kind kind = Kind::kNone;
};

const BackendApi* cpu = nullptr;
// What a test reads: operations so far, whether the fault has happened, calls after a loss. One device at a time.
Plan plan;
int64_t operations = 0;
bool fired = false;
bool hanging = false;
bool lost = false;
int64_t calls_after_loss = 0;
const char* message = "";
std::map<const Weight*, int64_t> weight_columns;  // of y, to know how much of it to poison

Plan read_plan() {
  const char* text = std::getenv("HIMAP_FAULT");
  long long at = 0;
  char kind[16] = "";
  if (!text || std::sscanf(text, "%lld %15s", &at, kind) != 2) return {};
  const std::string name = kind;
  const Kind found = name == "oom" ? Kind::kOom : name == "launch" ? Kind::kLaunch : name == "lost" ? Kind::kLost
                     : name == "hang" ? Kind::kHang : name == "nan" ? Kind::kNan : Kind::kNone;
  return {at, found};
}

/** Counts an operation; kOk, or the code of the fault that happens here. A poisoned result is the caller's part. */
int32_t begin(bool& poison) {
  poison = false;
  if (lost) ++calls_after_loss;
  ++operations;
  if (fired || operations < plan.at || plan.kind == Kind::kNone) return 0;
  switch (plan.kind) {
    case Kind::kOom:
      message = "[fault] memory could not be had";
      fired = true;
      return static_cast<int32_t>(Code::ERR_OUT_OF_MEMORY);
    case Kind::kLaunch:
      message = "[fault] a launch was refused";
      fired = true;
      return static_cast<int32_t>(Code::ERR_INTERNAL);
    case Kind::kLost:
      fired = lost = true;
      return static_cast<int32_t>(Code::ERR_DEVICE_LOST);
    case Kind::kHang:
      fired = hanging = true;
      return 0;
    default:
      poison = true;  // of the next operation whose result is known
      return 0;
  }
}

void poison_floats(void* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) static_cast<float*>(y)[i] = std::numeric_limits<float>::quiet_NaN();
  fired = true;
}

int64_t columns_of(const Weight* weight) {
  const auto found = weight_columns.find(weight);
  return found == weight_columns.end() ? 0 : found->second;
}

// What each operation writes, in floats, where a test can do without looking into the backend.
int64_t written(const NormParams& p, void*& y) { y = p.y; return p.rows * p.width; }
int64_t written(const LinearParams& p, void*& y) {
  y = p.y;
  return p.rows * columns_of(p.weight) / (p.epilogue == Epilogue::kSwiGlu ? 2 : 1);
}
int64_t written(const LogitsParams& p, void*& y) { y = p.y; return p.rows * columns_of(p.weight); }
template <class Params>
int64_t written(const Params&, void*& y) { y = nullptr; return 0; }

template <class Params, int32_t (*BackendApi::*operation)(Device*, const Params*)>
int32_t wrapped(Device* device, const Params* params) {
  bool poison;
  if (const int32_t code = begin(poison)) return code;
  const int32_t code = (cpu->*operation)(device, params);
  void* y = nullptr;
  if (poison && code == 0) {
    if (const int64_t count = written(*params, y)) poison_floats(y, count);
  }
  return code;
}

int32_t open(const DeviceOptions* options, Device** device, DeviceInfo* info, char* reason, size_t reason_bytes) {
  plan = read_plan();
  operations = calls_after_loss = 0;
  fired = hanging = lost = false;
  weight_columns.clear();
  return cpu->open(options, device, info, reason, reason_bytes);
}

int32_t allocate(Device* device, size_t bytes, void** buffer) {
  bool poison;
  if (const int32_t code = begin(poison)) return code;
  return cpu->allocate(device, bytes, buffer);
}

void release(Device* device, void* buffer) {
  if (lost) ++calls_after_loss;
  cpu->release(device, buffer);
}

int32_t poll(Device* device, int32_t* idle) {
  if (lost) ++calls_after_loss;
  if (hanging) {
    *idle = 0;
    return 0;
  }
  return cpu->poll(device, idle);
}

int32_t copy(Device* device, void* to, const void* from, size_t bytes) {
  bool poison;
  if (const int32_t code = begin(poison)) return code;
  return cpu->copy(device, to, from, bytes);
}

int32_t weight_import(Device* device, const WeightPart* parts, int32_t n, WeightLayout layout, Weight** weight) {
  bool poison;
  if (const int32_t code = begin(poison)) return code;
  const int32_t code = cpu->weight_import(device, parts, n, layout, weight);
  for (int32_t i = 0; code == 0 && i < n; ++i) weight_columns[*weight] += parts[i].out;
  return code;
}

const char* last_error(Device* device) { return fired && *message ? message : cpu->last_error(device); }

const BackendApi* load_cpu() {
  void* library = dlopen(HIMAP_CPU_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  const auto function = library ? reinterpret_cast<HimapBackendFunction*>(dlsym(library, kBackendSymbol)) : nullptr;
  return function ? function() : nullptr;
}

}  // namespace
}  // namespace himap

extern "C" __attribute__((visibility("default"))) const himap::BackendApi* himap_backend() {
  using namespace himap;
  static BackendApi table;
  if (!cpu) {
    cpu = load_cpu();
    if (!cpu) return nullptr;
    table = *cpu;
    table.name = "fault";
    table.open = open;
    table.last_error = last_error;
    table.allocate = allocate;
    table.release = release;
    table.poll = poll;
    table.copy = copy;
    table.weight_import = weight_import;
#define HIMAP_OPERATION(name, Params) table.name = wrapped<Params, &BackendApi::name>;
    HIMAP_OPERATIONS(HIMAP_OPERATION)
#undef HIMAP_OPERATION
  }
  return &table;
}

/** For the tests: operations since open, and calls that came after the device was lost. */
extern "C" __attribute__((visibility("default"))) void himap_fault_report(int64_t* counted, int64_t* after_loss, bool* happened) {
  *counted = himap::operations;
  *after_loss = himap::calls_after_loss;
  *happened = himap::fired;
}
