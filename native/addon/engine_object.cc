#include "native/addon/engine_object.h"

#include <dlfcn.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "native/addon/async.h"
#include "native/addon/read.h"
#include "native/addon/step_convert.h"
#include "native/addon/token_stream.h"
#include "native/engine/engine.h"

namespace himap {
namespace {

/** An engine and its thread. The engine is made, used and destroyed on that thread alone. */
class EngineOwner : public Shutdown {
 public:
  void shutdown() noexcept override {
    interrupt();
    thread.stop();
    place(nullptr);  // the thread is gone
  }

  /** Ends the step that runs and those that wait; while the model is being opened, gives up opening it. */
  void interrupt() noexcept {
    cancelled = true;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (engine_) engine_->interrupt(tickets.load());
  }

  /** Ends the first step that has not ended at its next token. */
  void yield() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (engine_) engine_->yield(tickets.load());
  }

  void place(std::unique_ptr<Engine> engine) {
    const std::lock_guard<std::mutex> lock(mutex_);
    engine_ = std::move(engine);
  }

  /** The engine, on its own thread; null before it is open and after it is closed. */
  Engine* engine() const { return engine_.get(); }

  TaskThread thread;
  std::atomic<uint64_t> tickets{0};
  std::atomic<bool> cancelled{false};

 private:
  std::mutex mutex_;  // the JavaScript thread interrupts while the engine thread places
  std::unique_ptr<Engine> engine_;
};

/**
 * Held by what opens the engine, then by the object's functions, and destroyed on the JavaScript thread: with the last of them the
 * engine goes.
 */
struct EngineHandle {
  const std::shared_ptr<AddonData> data;
  const std::shared_ptr<EngineOwner> owner = std::make_shared<EngineOwner>();

  explicit EngineHandle(std::shared_ptr<AddonData> held) : data(std::move(held)) { data->add(owner); }
  EngineHandle(const EngineHandle&) = delete;
  EngineHandle& operator=(const EngineHandle&) = delete;
  ~EngineHandle() {
    data->remove(owner);
    owner->shutdown();
  }
};

EngineOptions parse_options(const Napi::Value& value) {
  require(value.IsObject(), Code::ERR_INVALID_ARG, "[open] expected an object for options but received " + describe(value));
  const Fields fields{"open", value.As<Napi::Object>()};
  EngineOptions options;
  options.library_folder = addon_folder();
  options.backend = read_backend_name("open", fields.object.Get("backend"));
  options.threads = static_cast<int32_t>(fields.integer("threads", 0, 1024));
  const std::string weights = fields.string("weights");
  require(weights == "map" || weights == "copy", Code::ERR_INVALID_ARG, "[open] expected \"map\" or \"copy\" for weights but received \"" + weights + "\"");
  options.copy_weights = weights == "copy";
  options.kv_type = read_kv_type("open", fields.object.Get("kvType"));
  options.kv_pages = fields.integer("kvPages", 1, int64_t{1} << 30);
  return options;
}

Napi::Object info_object(Napi::Env env, const EngineInfo& info) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("threads", info.threads);
  object.Set("simd", info.simd);
  object.Set("mappedBytes", static_cast<double>(info.mapped_bytes));
  object.Set("weightBytes", static_cast<double>(info.weight_bytes));
  object.Set("kvBytes", static_cast<double>(info.kv_bytes));
  return object;
}

Napi::Value step(const Napi::CallbackInfo& info, const EngineHandle& handle) {
  auto input = std::make_shared<StepInput>(read_step(argument_fields("step", info)));
  auto output = std::make_shared<StepOutput>();
  std::shared_ptr<TokenStream> stream;
  if (!info[1].IsUndefined()) {
    require(info[1].IsFunction(), Code::ERR_INVALID_ARG, "[step] expected a function for onTokens but received " + describe(info[1]));
    stream = std::make_shared<TokenStream>(handle.data, info[1].As<Napi::Function>());
  }
  const std::shared_ptr<EngineOwner> owner = handle.owner;
  const uint64_t ticket = ++owner->tickets;
  return run_async(
      *handle.data, owner->thread,
      [owner, input, output, stream, ticket] {
        require(owner->engine() != nullptr, Code::ERR_DISPOSED, "[step] the engine is closed");
        OnTokens on_tokens;
        if (stream) on_tokens = [&stream](std::vector<StepToken>&& tokens) { TokenStream::push(stream, std::move(tokens)); };
        *output = owner->engine()->step(*input, ticket, on_tokens);
      },
      [output, stream](Napi::Env env) {
        if (stream) stream->rethrow();
        return write_step(env, *output);
      });
}

Napi::Value close(const EngineHandle& handle) {
  const std::shared_ptr<EngineOwner> owner = handle.owner;
  const std::shared_ptr<AddonData> data = handle.data;
  owner->interrupt();
  return run_async(
      *data, owner->thread,
      [owner] { owner->place(nullptr); },
      [](Napi::Env env) { return env.Undefined(); });
}

Napi::Object engine_object(Napi::Env env, const std::shared_ptr<EngineHandle>& handle) {
  Napi::Object object = Napi::Object::New(env);
  const auto method = [&](const char* name, auto function) {
    object.Set(name, Napi::Function::New(env, [handle, function](const Napi::CallbackInfo& info) {
      return coded(info.Env(), [&]() -> Napi::Value { return function(info, *handle); });
    }, name));
  };
  object.Set("info", info_object(env, handle->owner->engine()->info()));
  method("step", step);
  method("yield", [](const Napi::CallbackInfo& info, const EngineHandle& held) -> Napi::Value {
    held.owner->yield();
    return info.Env().Undefined();
  });
  method("interrupt", [](const Napi::CallbackInfo& info, const EngineHandle& held) -> Napi::Value {
    held.owner->interrupt();
    return info.Env().Undefined();
  });
  method("close", [](const Napi::CallbackInfo&, const EngineHandle& held) { return close(held); });
  return object;
}

}  // namespace

std::string addon_folder() {
  Dl_info info;
  require(dladdr(reinterpret_cast<void*>(&addon_folder), &info) != 0 && info.dli_fname != nullptr, Code::ERR_INTERNAL, "[addon] the addon's own path is unknown");
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

Napi::Value open_engine(const Napi::CallbackInfo& info) {
  require(info.Length() >= 2 && info[0].IsString(), Code::ERR_INVALID_ARG, "[open] expected a manifest and options");
  auto manifest = std::make_shared<std::string>(info[0].As<Napi::String>().Utf8Value());
  const EngineOptions options = parse_options(info[1]);
  std::shared_ptr<Napi::FunctionReference> on_progress;
  if (info.Length() > 2 && info[2].IsFunction()) {
    on_progress = std::make_shared<Napi::FunctionReference>(Napi::Persistent(info[2].As<Napi::Function>()));
  }

  const auto handle = std::make_shared<EngineHandle>(AddonData::of(info.Env()));
  // The engine's thread holds no handle: were it the last to let go, it would join itself.
  const auto report = [data = handle->data, owner = handle->owner, on_progress](int64_t done, int64_t total) {
    require(!owner->cancelled, Code::ERR_ABORTED, "[open] opening the model was given up");
    if (!on_progress) return;
    data->post(std::make_unique<AddonData::Call>([owner, on_progress, done, total](Napi::Env env) {
      const Napi::Value answer = on_progress->Call({Napi::Number::New(env, static_cast<double>(done)), Napi::Number::New(env, static_cast<double>(total))});
      if (answer.IsBoolean() && !answer.As<Napi::Boolean>().Value()) owner->cancelled = true;
    }));
  };
  return run_async(
      *handle->data, handle->owner->thread,
      [owner = handle->owner, manifest, options, report] { owner->place(std::make_unique<Engine>(*manifest, options, report)); },
      [handle](Napi::Env env) { return Napi::Value(engine_object(env, handle)); });
}

}  // namespace himap
