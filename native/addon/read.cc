#include "native/addon/read.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "native/backend/backend.h"
#include "native/core/status.h"

namespace himap {
namespace {

[[noreturn]] void mismatch(const Fields& fields, const std::string& expected, const char* name, const Napi::Value& value) {
  fail(Code::ERR_INVALID_ARG,
       std::string("[") + fields.where + "] expected " + expected + " for " + name + " but received " + describe(value));
}

/** A string itself, and what anything else is. */
std::string quoted(const Napi::Value& value) {
  return value.IsString() ? "\"" + value.As<Napi::String>().Utf8Value() + "\"" : describe(value);
}

}  // namespace

std::string describe(const Napi::Value& value) {
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
    case napi_number:
      return value.ToString().Utf8Value();
    case napi_string:
      return "a string";
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    case napi_bigint:
      return "a bigint";
    case napi_external:
      return "an external value";
    case napi_object:
      return value.IsArray() ? "an array" : value.IsTypedArray() ? "a typed array" : "an object";
  }
  return "an unknown value";
}

int64_t Fields::integer(const char* name, int64_t low, int64_t high) const {
  const Napi::Value value = object.Get(name);
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  // Compared as doubles: a cast of what does not fit is undefined.
  if (!(number >= static_cast<double>(low) && number <= static_cast<double>(high)) || number != std::floor(number)) {
    mismatch(*this, "an integer from " + std::to_string(low) + " to " + std::to_string(high), name, value);
  }
  return static_cast<int64_t>(number);
}

double Fields::number(const char* name) const {
  const Napi::Value value = object.Get(name);
  if (!value.IsNumber() || !std::isfinite(value.As<Napi::Number>().DoubleValue()))
    mismatch(*this, "a finite number", name, value);
  return value.As<Napi::Number>().DoubleValue();
}

std::string Fields::string(const char* name) const {
  const Napi::Value value = object.Get(name);
  if (!value.IsString()) mismatch(*this, "a string", name, value);
  return value.As<Napi::String>().Utf8Value();
}

std::vector<double> Fields::numbers(const char* name, uint32_t count) const {
  const Napi::Value value = object.Get(name);
  if (!value.IsArray() || value.As<Napi::Array>().Length() != count)
    mismatch(*this, std::to_string(count) + " numbers", name, value);
  std::vector<double> numbers;
  for (uint32_t i = 0; i < count; ++i) {
    const Napi::Value element = value.As<Napi::Array>().Get(i);
    if (!element.IsNumber() || !std::isfinite(element.As<Napi::Number>().DoubleValue()))
      mismatch(*this, std::to_string(count) + " finite numbers", name, element);
    numbers.push_back(element.As<Napi::Number>().DoubleValue());
  }
  return numbers;
}

std::vector<uint8_t> Fields::bytes(const char* name) const {
  const Napi::Value value = object.Get(name);
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    mismatch(*this, "a Uint8Array", name, value);
  const auto array = value.As<Napi::Uint8Array>();
  return std::vector<uint8_t>(array.Data(), array.Data() + array.ElementLength());
}

DType read_kv_type(const char* where, const Napi::Value& value) {
  const std::string name = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  if (name == "f32") return DType::kF32;
  if (name == "f16") return DType::kF16;
  if (name == "bf16") return DType::kBF16;
  fail(Code::ERR_INVALID_ARG, std::string("[") + where + "] expected \"f32\", \"f16\" or \"bf16\" for kvType but received " + quoted(value));
}

std::string read_backend_name(const char* where, const Napi::Value& value) {
  const std::string name = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  const bool known = std::find(std::begin(kBackendNames), std::end(kBackendNames), name) != std::end(kBackendNames);
  require(known, Code::ERR_INVALID_ARG, std::string("[") + where + "] expected \"cpu\" or \"cuda\" for backend but received " + quoted(value));
  return name;
}

Fields argument_fields(const char* where, const Napi::CallbackInfo& info) {
  if (!info[0].IsObject())
    fail(Code::ERR_INVALID_ARG,
         std::string("[") + where + "] expected an object for the argument but received " + describe(info[0]));
  return {where, info[0].As<Napi::Object>()};
}

}  // namespace himap
