// The addon, and with it failNth(n), failedRequest() and held() of fail_nth.h for test/robustness/fail-addon.ts.
#include "native/addon/module.h"
#include "test/native/fail_nth.h"

namespace {

Napi::Value fail_nth(const Napi::CallbackInfo& info) {
  himap::test::fail_nth(info[0].As<Napi::Number>().Int64Value());
  return info.Env().Undefined();
}

Napi::Value failed_request(const Napi::CallbackInfo& info) {
  const char* request = himap::test::failed_request();
  return request == nullptr ? info.Env().Undefined() : Napi::Value(Napi::String::New(info.Env(), request));
}

Napi::Value held(const Napi::CallbackInfo& info) {
  const himap::test::Held now = himap::test::held();
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("blocks", static_cast<double>(now.blocks));
  out.Set("maps", static_cast<double>(now.maps));
  out.Set("descriptors", static_cast<double>(now.descriptors));
  out.Set("threads", static_cast<double>(now.threads));
  return out;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("failNth", Napi::Function::New<fail_nth>(env, "failNth"));
  exports.Set("failedRequest", Napi::Function::New<failed_request>(env, "failedRequest"));
  exports.Set("held", Napi::Function::New<held>(env, "held"));
  return himap::fill_module(env, exports);
}

}  // namespace

NODE_API_MODULE(himap, init)
