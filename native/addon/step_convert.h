// A step's input out of JavaScript and its output back: every value is copied, so that nothing of JavaScript is touched
// while the step runs. lib/binding/native.ts names the fields.
#pragma once

#include <napi.h>

#include <vector>

#include "native/addon/read.h"
#include "native/engine/step.h"

namespace himap {

StepInput read_step(const Fields& fields);

Napi::Value write_step(Napi::Env env, const StepOutput& output);

Napi::Value write_tokens(Napi::Env env, const std::vector<StepToken>& tokens);

}  // namespace himap
