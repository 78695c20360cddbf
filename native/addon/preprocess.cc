#include "native/addon/preprocess.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "native/addon/async.h"
#include "native/addon/read.h"
#include "native/image/resize.h"

namespace himap {
namespace {

struct PreprocessJob {
  std::vector<uint8_t> source;
  PreprocessParams params;
  Preprocessed result;
};

template <class Array, class Element>
Array to_typed_array(Napi::Env env, const std::vector<Element>& values) {
  Array array = Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

}  // namespace

Napi::Value preprocess_image(const Napi::CallbackInfo& info) {
  const Fields fields = argument_fields("preprocess", info);
  const std::string geometry = fields.string("geometry");
  require(geometry == "pad" || geometry == "crop", Code::ERR_INVALID_ARG,
          "[preprocess] expected \"pad\" or \"crop\" for geometry but received \"" + geometry + "\"");
  const std::vector<double> mean = fields.numbers("mean", 3);
  const std::vector<double> std = fields.numbers("std", 3);

  auto job = std::make_shared<PreprocessJob>();
  job->source = fields.bytes("pixels");
  job->params = {
      .pixels = job->source.data(),
      .byte_length = job->source.size(),
      .width = fields.integer("width", 1, kMaxImageSide),
      .height = fields.integer("height", 1, kMaxImageSide),
      .channels = fields.integer("channels", 3, 4),
      .geometry = geometry == "pad" ? Geometry::kPad : Geometry::kCrop,
      .side = fields.integer("side", 1, kMaxModelSide),
      .mean = {mean[0], mean[1], mean[2]},
      .std = {std[0], std[1], std[2]},
  };

  const std::shared_ptr<AddonData> data = AddonData::of(info.Env());
  return run_async(
      *data, data->image_threads(),
      [job] {
        job->result = preprocess(job->params);
        std::vector<uint8_t>().swap(job->source);  // the largest part is not kept until JavaScript has time for the answer
      },
      [job](Napi::Env env) {
        Napi::Object result = Napi::Object::New(env);
        result.Set("pixels", to_typed_array<Napi::Float32Array>(env, job->result.pixels));
        result.Set("bytes", to_typed_array<Napi::Uint8Array>(env, job->result.bytes));
        return Napi::Value(result);
      });
}

}  // namespace himap
