// Fields of an argument object, checked. TypeScript has checked them for the user's sake; here it is for memory's.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/types.h"

namespace himap {

// Each throws ERR_INVALID_ARG, `[where] expected X for name but received Z`, when the field is missing or something else.
struct Fields {
  const char* where;
  Napi::Object object;

  // An integer in [low, high].
  int64_t integer(const char* name, int64_t low, int64_t high) const;
  // A finite number.
  double number(const char* name) const;
  std::string string(const char* name) const;
  // An array of `count` finite numbers.
  std::vector<double> numbers(const char* name, uint32_t count) const;
  // A copy: the caller may transfer, resize or overwrite what it holds as soon as the call has returned.
  std::vector<uint8_t> bytes(const char* name) const;
};

// The first argument, which must be an object.
Fields argument_fields(const char* where, const Napi::CallbackInfo& info);

// "f32", "f16" or "bf16", named kvType: the storage type of the KV pool.
DType read_kv_type(const char* where, const Napi::Value& value);

// The name of one of kBackendNames.
std::string read_backend_name(const char* where, const Napi::Value& value);

// What a value is, for an error message.
std::string describe(const Napi::Value& value);

}  // namespace himap
