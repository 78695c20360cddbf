// The way of a step's tokens to JavaScript while the step goes on. The engine's thread never waits for it: what JavaScript
// has not taken yet is kept, and handed over together.
#pragma once

#include <napi.h>

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "native/addon/addon_data.h"
#include "native/engine/step.h"

namespace himap {

// Made and destroyed on the JavaScript thread.
class TokenStream {
 public:
  TokenStream(std::shared_ptr<AddonData> data, const Napi::Function& on_tokens);

  // Keeps the tokens and sees to it that they are delivered. From the engine's thread; `stream` is held until then.
  static void push(const std::shared_ptr<TokenStream>& stream, std::vector<StepToken>&& tokens);

  // Throws what the callback threw, if it did. JavaScript thread.
  void rethrow() const;

 private:
  void deliver(Napi::Env env);

  const std::shared_ptr<AddonData> data_;
  Napi::FunctionReference on_tokens_;
  std::optional<Napi::Error> thrown_;
  std::mutex mutex_;
  std::vector<StepToken> waiting_;
  bool called_ = false;  // a message to the JavaScript thread is on its way
};

}  // namespace himap
