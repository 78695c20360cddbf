#include "native/addon/async.h"

#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <utility>

namespace himap {
namespace {

constexpr const char* kNoMemory = "memory could not be had";

struct Job {
  std::function<void()> work;
  std::function<Napi::Value(Napi::Env)> done;
  std::optional<Napi::Promise::Deferred> deferred;  // once nothing but the promise tells what becomes of the job
  std::optional<Error> error;
};

void settle(Napi::Env env, Job& job) {
  if (job.error) {
    job.deferred->Reject(to_js_error(env, *job.error).Value());
    return;
  }
  try {
    job.deferred->Resolve(job.done(env));
  } catch (const Napi::Error& error) {
    job.deferred->Reject(error.Value());
  } catch (...) {
    job.deferred->Reject(to_js_error(env, caught_error()).Value());
  }
}

// Carries a job over its thread. Whatever becomes of the task, a job with a promise goes back to the JavaScript thread exactly
// once; the message that takes it there is made beforehand, because a job destroyed elsewhere could make a thread join itself.
class Ticket {
 public:
  Ticket(std::shared_ptr<AddonData> data, const std::shared_ptr<Job>& job)
      : data_(std::move(data)),
        job_(*job),
        message_(std::make_unique<AddonData::Call>([data = data_, job](Napi::Env env) {
          data->ended();
          settle(env, *job);
        })) {}
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;

  ~Ticket() {
    if (message_ == nullptr || !job_.deferred) return;
    carry_out([] { fail(Code::ERR_ABORTED, "the work was dropped: its thread is stopped"); });
  }

  /** Does `work` in the job's place, or the job's own, and sends the job back. */
  template <class Work>
  void carry_out(const Work& work) {
    try {
      work();
    } catch (...) {
      job_.error = caught_error();
    }
    data_->post(std::move(message_));
  }
  void run() { carry_out(job_.work); }

 private:
  std::shared_ptr<AddonData> data_;
  Job& job_;  // the message's
  std::unique_ptr<AddonData::Call> message_;
};

}  // namespace

Napi::Promise run_async(AddonData& data, TaskThread& thread, std::function<void()> work,
                        std::function<Napi::Value(Napi::Env)> done) {
  auto job = std::make_shared<Job>(Job{std::move(work), std::move(done), std::nullopt, std::nullopt});
  auto ticket = std::make_shared<Ticket>(data.shared_from_this(), job);
  // From here on a failure is the promise's: one that is thrown would leave behind a promise whose rejection nobody can catch.
  const Napi::Promise promise = job->deferred.emplace(Napi::Promise::Deferred::New(data.env())).Promise();
  data.began();
  try {
    thread.post([ticket] { ticket->run(); });
  } catch (...) {
    ticket->carry_out([] { throw; });
  }
  return promise;
}

Error caught_error() noexcept {
  try {
    try {
      throw;
    } catch (const Error& error) {
      return error;
    } catch (const std::bad_alloc&) {
      return Error(Code::ERR_OUT_OF_MEMORY, kNoMemory);
    } catch (const std::exception& error) {
      return Error(Code::ERR_INTERNAL, error.what());
    } catch (...) {
      return Error(Code::ERR_INTERNAL, "an exception of unknown type");
    }
  } catch (...) {  // not even memory for the sentence
    return Error(Code::ERR_OUT_OF_MEMORY, {});
  }
}

Napi::Error to_js_error(Napi::Env env, const Error& error) {
  Napi::Error js = error.message.empty() ? Napi::Error::New(env, kNoMemory) : Napi::Error::New(env, error.message);
  js.Set("code", Napi::String::New(env, code_name(error.code)));
  return js;
}

}  // namespace himap
