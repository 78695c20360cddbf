#include "native/addon/async.h"

#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <utility>

namespace himap {
namespace {

struct Job {
  Napi::Promise::Deferred deferred;
  std::function<void()> work;
  std::function<Napi::Value(Napi::Env)> done;
  std::optional<Error> error;
};

void settle(Napi::Env env, Job& job) {
  if (job.error) {
    job.deferred.Reject(to_js_error(env, *job.error).Value());
    return;
  }
  try {
    job.deferred.Resolve(job.done(env));
  } catch (const Napi::Error& error) {
    job.deferred.Reject(error.Value());
  } catch (...) {
    job.deferred.Reject(to_js_error(env, caught_error()).Value());
  }
}

// Carries a job over its thread. Whatever becomes of the task, the job goes back to the JavaScript thread exactly once.
class Ticket {
 public:
  Ticket(std::shared_ptr<AddonData> data, std::shared_ptr<Job> job) : data_(std::move(data)), job_(std::move(job)) {}
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;

  ~Ticket() {
    if (job_ == nullptr) return;
    job_->error = Error(Code::ERR_ABORTED, "the work was dropped: its thread is stopped");
    send_back();
  }

  void run() {
    try {
      job_->work();
    } catch (...) {
      job_->error = caught_error();
    }
    send_back();
  }

 private:
  void send_back() noexcept {
    try {
      data_->post([data = data_, job = std::move(job_)](Napi::Env env) {
        data->ended();
        settle(env, *job);
      });
    } catch (...) {  // out of memory for the message itself
    }
    job_ = nullptr;
  }

  std::shared_ptr<AddonData> data_;
  std::shared_ptr<Job> job_;
};

}  // namespace

Napi::Promise run_async(AddonData& data, TaskThread& thread, std::function<void()> work,
                        std::function<Napi::Value(Napi::Env)> done) {
  auto deferred = Napi::Promise::Deferred::New(data.env());
  const Napi::Promise promise = deferred.Promise();
  auto job = std::make_shared<Job>(Job{deferred, std::move(work), std::move(done), std::nullopt});
  auto ticket = std::make_shared<Ticket>(data.shared_from_this(), std::move(job));
  data.began();
  thread.post([ticket = std::move(ticket)] { ticket->run(); });
  return promise;
}

Error caught_error() noexcept {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error(Code::ERR_OUT_OF_MEMORY, "memory could not be had");
  } catch (const std::exception& error) {
    return Error(Code::ERR_INTERNAL, error.what());
  } catch (...) {
    return Error(Code::ERR_INTERNAL, "an exception of unknown type");
  }
}

Napi::Error to_js_error(Napi::Env env, const Error& error) {
  Napi::Error js = Napi::Error::New(env, error.message);
  js.Set("code", Napi::String::New(env, code_name(error.code)));
  return js;
}

}  // namespace himap
