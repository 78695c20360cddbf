#include "native/addon/step_convert.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "native/core/status.h"

namespace himap {
namespace {

constexpr int64_t kMaxCount = int64_t{1} << 31;

[[noreturn]] void bad(const std::string& expected, const std::string& name, const Napi::Value& value) {
  fail(Code::ERR_INVALID_ARG, "[step] expected " + expected + " for " + name + " but received " + describe(value));
}

bool present(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  return !value.IsUndefined() && !value.IsNull();
}

bool flag(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (value.IsUndefined()) return false;
  if (!value.IsBoolean()) bad("a boolean", name, value);
  return value.As<Napi::Boolean>().Value();
}

/** A copy of a typed array of exactly this element type. */
template <class T>
std::vector<T> array(const Napi::Object& object, const char* name, napi_typedarray_type type, const char* expected) {
  const Napi::Value value = object.Get(name);
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) bad(expected, name, value);
  const auto typed = value.As<Napi::TypedArrayOf<T>>();
  std::vector<T> copy(typed.ElementLength());
  if (!copy.empty()) std::memcpy(copy.data(), typed.Data(), copy.size() * sizeof(T));
  return copy;
}
std::vector<int32_t> ints(const Napi::Object& object, const char* name) {
  return array<int32_t>(object, name, napi_int32_array, "an Int32Array");
}
std::vector<uint32_t> unsigned_ints(const Napi::Object& object, const char* name) {
  return array<uint32_t>(object, name, napi_uint32_array, "a Uint32Array");
}
std::vector<float> floats(const Napi::Object& object, const char* name) {
  return array<float>(object, name, napi_float32_array, "a Float32Array");
}

/** Calls `read` with each object of an array. */
template <class Read>
void each(const Napi::Object& object, const char* name, Read read) {
  const Napi::Value value = object.Get(name);
  if (!value.IsArray()) bad("an array", name, value);
  const auto list = value.As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const Napi::Value item = list.Get(i);
    if (!item.IsObject()) bad("an object", name, item);
    read(Fields{"step", item.As<Napi::Object>()});
  }
}

StepImage read_image(const Fields& fields) {
  StepImage image;
  if (present(fields.object, "pixels")) image.pixels = floats(fields.object, "pixels");
  if (present(fields.object, "features")) image.features = floats(fields.object, "features");
  image.return_features = flag(fields.object, "returnFeatures");
  image.return_vision = flag(fields.object, "returnVision");
  return image;
}

StepCut read_cut(const Fields& fields) {
  StepCut cut;
  cut.before = fields.integer("before", 0, kMaxCount);
  cut.keep = fields.integer("keep", 0, kMaxCount);
  cut.ranked = !present(fields.object, "keptRanks");
  if (!cut.ranked) {
    for (const uint32_t rank : unsigned_ints(fields.object, "keptRanks")) {
      require(rank < kMaxCount, Code::ERR_INVALID_ARG, "[step] a kept rank is out of range");
      cut.ranks.push_back(static_cast<int32_t>(rank));
    }
    return cut;
  }
  const std::string voters = fields.string("voters");
  if (voters == "instruction") cut.voters = Voters::kInstruction;
  else if (voters == "image") cut.voters = Voters::kImage;
  else if (voters == "last") cut.voters = Voters::kLast;
  else if (voters == "all") cut.voters = Voters::kAll;
  else bad("instruction, image, last or all", "voters", fields.object.Get("voters"));
  if (present(fields.object, "heads")) {
    const std::string heads = fields.string("heads");
    if (heads != "mean" && heads != "max") bad("mean or max", "heads", fields.object.Get("heads"));
    cut.heads_max = heads == "max";
  }
  if (present(fields.object, "weights")) cut.weights = floats(fields.object, "weights");
  return cut;
}

StepSampling read_sampling(const Napi::Object& sequence) {
  const Napi::Value value = sequence.Get("sampling");
  if (!value.IsObject()) bad("an object", "sampling", value);
  const Fields fields{"step", value.As<Napi::Object>()};
  StepSampling sampling;
  sampling.temperature = fields.number("temperature");
  sampling.top_k = fields.integer("topK", 0, kMaxCount);
  sampling.top_p = fields.number("topP");
  sampling.min_p = fields.number("minP");
  sampling.sample = static_cast<uint32_t>(fields.integer("sample", 0, UINT32_MAX));
  const std::vector<double> seed = fields.numbers("seed", 2);
  for (int i = 0; i < 2; ++i) {
    const double word = seed[static_cast<size_t>(i)];
    require(word >= 0 && word <= UINT32_MAX && word == std::floor(word), Code::ERR_INVALID_ARG, "[step] a seed must be two 32-bit words");
    sampling.seed[i] = static_cast<uint32_t>(word);
  }
  return sampling;
}

StepSequence read_sequence(const Fields& fields) {
  const Napi::Object& object = fields.object;
  StepSequence sequence;
  const std::string phase = fields.string("phase");
  if (phase != "prefill" && phase != "decode") bad("prefill or decode", "phase", object.Get("phase"));
  sequence.phase = phase == "prefill" ? Phase::kPrefill : Phase::kDecode;
  sequence.ids = ints(object, "ids");
  sequence.positions = ints(object, "positions");
  const std::vector<int32_t> spans = ints(object, "spans");
  require(spans.size() % 3 == 0, Code::ERR_INVALID_ARG, "[step] spans must have three values each");
  for (size_t i = 0; i < spans.size(); i += 3) sequence.spans.push_back({spans[i], spans[i + 1], spans[i + 2]});
  each(object, "cuts", [&](const Fields& cut) { sequence.cuts.push_back(read_cut(cut)); });
  each(object, "stages", [&](const Fields& stage) {
    sequence.stages.push_back({stage.integer("cached", 0, kMaxCount), stage.integer("blocks", 0, kMaxCount), ints(stage.object, "pages")});
  });
  if (present(object, "adjust")) {
    const Napi::Value value = object.Get("adjust");
    if (!value.IsObject()) bad("an object", "adjust", value);
    const auto adjust = value.As<Napi::Object>();
    sequence.adjust = {ints(adjust, "tokens"), floats(adjust, "add"), floats(adjust, "multiply")};
  }
  if (present(object, "allowed")) sequence.allowed = unsigned_ints(object, "allowed");
  sequence.stop = ints(object, "stop");
  sequence.burst = fields.integer("burst", 1, 1 << 20);
  if (present(object, "candidates")) {
    const std::string candidates = fields.string("candidates");
    if (candidates != "all" && candidates != "last") bad("all or last", "candidates", object.Get("candidates"));
    sequence.all_candidates = candidates == "all";
  }
  sequence.sampling = read_sampling(object);
  sequence.return_scores = flag(object, "returnScores");
  if (present(object, "study")) {
    const Napi::Value value = object.Get("study");
    if (!value.IsObject()) bad("an object", "study", value);
    const auto study = value.As<Napi::Object>();
    sequence.study = true;
    sequence.study_hidden = flag(study, "hidden");
    sequence.study_scores = flag(study, "scores");
    if (present(study, "logits")) {
      const Napi::Value logits = study.Get("logits");
      const std::string which = logits.IsString() ? logits.As<Napi::String>().Utf8Value() : "";
      if (which != "all" && which != "last") bad("all or last", "study.logits", logits);
      sequence.study_logits_all = which == "all";
    }
  }
  return sequence;
}

template <class Array, class T>
Array typed(Napi::Env env, const std::vector<T>& values) {
  Array out = Array::New(env, values.size());
  std::copy(values.begin(), values.end(), out.Data());
  return out;
}

Napi::Array list_of_floats(Napi::Env env, const std::vector<std::vector<float>>& lists) {
  Napi::Array out = Napi::Array::New(env, lists.size());
  for (uint32_t i = 0; i < lists.size(); ++i) out.Set(i, typed<Napi::Float32Array>(env, lists[i]));
  return out;
}

Napi::Object write_candidates(Napi::Env env, const Candidates& candidates) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("ids", typed<Napi::Int32Array>(env, candidates.ids));
  out.Set("logits", typed<Napi::Float32Array>(env, candidates.logits));
  out.Set("logSumExp", static_cast<double>(candidates.log_sum_exp));
  return out;
}

Napi::Object write_result(Napi::Env env, const StepResult& result) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("tokens", typed<Napi::Int32Array>(env, result.tokens));
  Napi::Array candidates = Napi::Array::New(env, result.candidates.size());
  for (uint32_t i = 0; i < result.candidates.size(); ++i) candidates.Set(i, write_candidates(env, result.candidates[i]));
  out.Set("candidates", candidates);
  Napi::Array cuts = Napi::Array::New(env, result.cuts.size());
  for (uint32_t i = 0; i < result.cuts.size(); ++i) {
    Napi::Object one = Napi::Object::New(env);
    one.Set("kept", typed<Napi::Uint32Array>(env, result.cuts[i].kept));
    if (!result.cuts[i].scores.empty()) one.Set("scores", typed<Napi::Float32Array>(env, result.cuts[i].scores));
    cuts.Set(i, one);
  }
  out.Set("cuts", cuts);
  if (!result.logits.empty()) out.Set("logits", typed<Napi::Float32Array>(env, result.logits));
  if (!result.positions.empty()) out.Set("positions", typed<Napi::Int32Array>(env, result.positions));
  if (!result.hidden.empty()) out.Set("hidden", list_of_floats(env, result.hidden));
  if (!result.colsum.empty()) out.Set("colsum", list_of_floats(env, result.colsum));
  if (!result.blocks.empty()) out.Set("blocks", list_of_floats(env, result.blocks));
  return out;
}

}  // namespace

StepInput read_step(const Fields& fields) {
  StepInput input;
  each(fields.object, "images", [&](const Fields& image) { input.images.push_back(read_image(image)); });
  each(fields.object, "sequences", [&](const Fields& sequence) { input.sequences.push_back(read_sequence(sequence)); });
  if (present(fields.object, "copies")) {
    const std::vector<int32_t> pairs = ints(fields.object, "copies");
    require(pairs.size() % 2 == 0, Code::ERR_INVALID_ARG, "[step] copies must have two values each");
    for (size_t i = 0; i < pairs.size(); i += 2) input.copies.push_back({pairs[i], pairs[i + 1]});
  }
  return input;
}

Napi::Value write_tokens(Napi::Env env, const std::vector<StepToken>& tokens) {
  Napi::Array out = Napi::Array::New(env, tokens.size());
  for (uint32_t i = 0; i < tokens.size(); ++i) {
    Napi::Object one = Napi::Object::New(env);
    one.Set("sequence", static_cast<double>(tokens[i].sequence));
    if (tokens[i].token) one.Set("token", *tokens[i].token);
    if (tokens[i].candidates) one.Set("candidates", write_candidates(env, *tokens[i].candidates));
    out.Set(i, one);
  }
  return out;
}

Napi::Value write_step(Napi::Env env, const StepOutput& output) {
  Napi::Object out = Napi::Object::New(env);
  Napi::Array images = Napi::Array::New(env, output.images.size());
  for (uint32_t i = 0; i < output.images.size(); ++i) {
    Napi::Object image = Napi::Object::New(env);
    if (!output.images[i].features.empty()) image.Set("features", typed<Napi::Float32Array>(env, output.images[i].features));
    if (!output.images[i].vision.empty()) image.Set("vision", typed<Napi::Float32Array>(env, output.images[i].vision));
    images.Set(i, image);
  }
  out.Set("images", images);
  Napi::Array sequences = Napi::Array::New(env, output.sequences.size());
  for (uint32_t i = 0; i < output.sequences.size(); ++i) sequences.Set(i, write_result(env, output.sequences[i]));
  out.Set("sequences", sequences);
  Napi::Object timings = Napi::Object::New(env);
  timings.Set("vision", output.timings.vision);
  timings.Set("prefill", output.timings.prefill);
  timings.Set("decode", output.timings.decode);
  timings.Set("idle", output.timings.idle);
  out.Set("timings", timings);
  return out;
}

}  // namespace himap
