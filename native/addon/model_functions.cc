#include "native/addon/model_functions.h"

#include <algorithm>
#include <string>
#include <thread>

#include "kernels/kv_layout.h"
#include "native/addon/engine_object.h"
#include "native/addon/read.h"
#include "native/backend/backend.h"
#include "native/backend/cpu/scratch.h"
#include "native/core/status.h"
#include "native/engine/engine.h"
#include "native/prune/plan.h"

namespace himap {
namespace {

// Products of these with what a manifest may hold stay below 2^63.
constexpr int64_t kMaxCount = int64_t{1} << 31;
constexpr int64_t kMaxHeads = 1 << 20;  // and of a head's dimension
constexpr int64_t kMaxImages = 1 << 16;

int64_t integer_argument(const Napi::CallbackInfo& info, size_t index, const char* where, int64_t most) {
  const Napi::Value value = info[index];
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  require(number >= 0 && number <= static_cast<double>(most) && number == static_cast<double>(static_cast<int64_t>(number)),
          Code::ERR_INVALID_ARG,
          std::string("[") + where + "] expected an integer from 0 to " + std::to_string(most) + " but received " + describe(value));
  return static_cast<int64_t>(number);
}

}  // namespace

Napi::Value plan(const Napi::CallbackInfo& info) {
  const Fields fields = argument_fields("plan", info);
  PlanJob job{.layers = fields.integer("layers", 1, kMaxCount),
              .length = fields.integer("length", 0, kMaxCount),
              .image_tokens = fields.integer("imageTokens", 0, kMaxCount),
              .new_tokens = fields.integer("newTokens", 0, kMaxCount),
              .cuts = {}};
  const Napi::Value cuts = fields.object.Get("cuts");
  require(cuts.IsArray(), Code::ERR_INVALID_ARG, "[plan] expected an array for cuts but received " + describe(cuts));
  const auto list = cuts.As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const Napi::Value cut = list.Get(i);
    require(cut.IsObject(), Code::ERR_INVALID_ARG, "[plan] expected an object for a cut but received " + describe(cut));
    const Fields own{"plan", cut.As<Napi::Object>()};
    job.cuts.push_back({own.integer("before", 0, kMaxCount), own.integer("keep", 0, kMaxCount)});
  }
  const std::vector<Stage> stages = plan_stages(job);
  Napi::Array out = Napi::Array::New(info.Env(), stages.size());
  for (uint32_t i = 0; i < stages.size(); ++i) {
    Napi::Object stage = Napi::Object::New(info.Env());
    stage.Set("first", static_cast<double>(stages[i].first));
    stage.Set("end", static_cast<double>(stages[i].end));
    stage.Set("tokens", static_cast<double>(stages[i].tokens));
    stage.Set("imageTokens", static_cast<double>(stages[i].image_tokens));
    stage.Set("capacity", static_cast<double>(stages[i].capacity));
    stage.Set("blocks", static_cast<double>(stages[i].blocks));
    out.Set(i, stage);
  }
  return out;
}

Napi::Value page_bytes(const Napi::CallbackInfo& info) {
  const KvLayout layout{read_kv_type("pageBytes", info[2]), static_cast<int32_t>(integer_argument(info, 0, "pageBytes", kMaxHeads)),
                        static_cast<int32_t>(integer_argument(info, 1, "pageBytes", kMaxHeads))};
  return Napi::Number::New(info.Env(), static_cast<double>(layout.page_bytes()));
}

Napi::Value memory_of(const Napi::CallbackInfo& info) {
  require(info[0].IsString(), Code::ERR_INVALID_ARG, "[memoryOf] expected a manifest but received " + describe(info[0]));
  const ModelConfig config = parse_manifest(info[0].As<Napi::String>().Utf8Value()).config;
  const int64_t rows = integer_argument(info, 1, "memoryOf", kMaxCount);
  const int64_t images = integer_argument(info, 2, "memoryOf", kMaxImages);
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("vectors", static_cast<double>(model_vector_bytes(config)));
  const auto head_dim = static_cast<int32_t>(std::max(config.head_dim, config.vision.hidden / config.vision.heads));
  const int64_t scratch = std::thread::hardware_concurrency() * static_cast<int64_t>(thread_scratch_bytes(head_dim));
  out.Set("workspace", static_cast<double>(engine_workspace_bytes(config, rows, images) + scratch));
  return out;
}

Napi::Value backends(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Array out = Napi::Array::New(env);
  for (const char* name : kBackendNames) {
    const BackendProbe probe = probe_backend(addon_folder(), name);
    Napi::Object one = Napi::Object::New(env);
    one.Set("name", name);
    one.Set("usable", probe.usable);
    one.Set("path", probe.path);
    if (!probe.reason.empty()) one.Set("reason", probe.reason);
    if (!probe.detail.empty()) one.Set("detail", probe.detail);
    out.Set(out.Length(), one);
  }
  return out;
}

Napi::Value device_memory(const Napi::CallbackInfo& info) {
  const std::optional<DeviceMemory> memory = device_memory(addon_folder(), read_backend_name("deviceMemory", info[0]));
  if (!memory) return info.Env().Undefined();
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("free", static_cast<double>(memory->free));
  out.Set("total", static_cast<double>(memory->total));
  return out;
}

Napi::Array error_codes(Napi::Env env) {
  Napi::Array out = Napi::Array::New(env);
  for (int32_t code = 1; code <= static_cast<int32_t>(Code::ERR_INTERNAL); ++code) {
    out.Set(static_cast<uint32_t>(code - 1), code_name(static_cast<Code>(code)));
  }
  return out;
}

}  // namespace himap
