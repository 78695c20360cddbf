#include "native/addon/token_stream.h"

#include <iterator>
#include <utility>

#include "native/addon/async.h"
#include "native/addon/step_convert.h"

namespace himap {

TokenStream::TokenStream(std::shared_ptr<AddonData> data, const Napi::Function& on_tokens)
    : data_(std::move(data)), on_tokens_(Napi::Persistent(on_tokens)) {}

void TokenStream::push(const std::shared_ptr<TokenStream>& stream, std::vector<StepToken>&& tokens) {
  std::unique_ptr<AddonData::Call> message;
  {
    const std::lock_guard<std::mutex> lock(stream->mutex_);
    stream->waiting_.insert(stream->waiting_.end(), std::make_move_iterator(tokens.begin()), std::make_move_iterator(tokens.end()));
    if (stream->called_) return;
    message = std::make_unique<AddonData::Call>([stream](Napi::Env env) { stream->deliver(env); });
    stream->called_ = true;
  }
  stream->data_->post(std::move(message));
}

void TokenStream::deliver(Napi::Env env) {
  std::vector<StepToken> tokens;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    tokens.swap(waiting_);
    called_ = false;
  }
  if (thrown_) return;
  try {
    on_tokens_.Call({write_tokens(env, tokens)});
  } catch (const Napi::Error& error) {
    thrown_ = error;
  } catch (...) {
    thrown_ = to_js_error(env, caught_error());
  }
}

void TokenStream::rethrow() const {
  if (thrown_) throw Napi::Error(*thrown_);
}

}  // namespace himap
