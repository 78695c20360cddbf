// Pixels to the model's square: sizes, geometry, means and bytes from the input.
#include <algorithm>
#include <cstring>
#include <vector>

#include "native/image/resize.h"
#include "test/fuzz/native/target.h"

using namespace himap;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  test::Choices choices(data, size);
  PreprocessParams params{};
  // Mostly small; now and then one side is long.
  params.width = choices.or_border(choices.up_to(24));
  params.height = choices.or_border(choices.up_to(24));
  params.channels = choices.or_border(3 + choices.up_to(1));
  params.geometry = choices.up_to(1) == 0 ? Geometry::kPad : Geometry::kCrop;
  params.side = choices.or_border(choices.up_to(16));
  for (int c = 0; c < 3; ++c) {
    params.mean[c] = choices.rarely() ? choices.any_float() : static_cast<double>(choices.byte()) / 255;
    params.std[c] = choices.rarely() ? choices.any_float() : static_cast<double>(1 + choices.byte()) / 255;
  }

  // As many bytes as the sizes ask for, from what is left of the input, over and over; or rarely another number of them.
  constexpr int64_t kMost = 1 << 18;
  const bool small = params.width > 0 && params.height > 0 && params.width <= kMost && params.height <= kMost &&
                     params.width * params.height <= kMost / 4;
  const int64_t fitting = small && (params.channels == 3 || params.channels == 4) ? params.width * params.height * params.channels : 0;
  // A large square is right and takes up to seconds; the run is about sizes that are wrong, and keeps none of these.
  if (fitting > 0 && params.side > 64 && params.side <= kMaxModelSide) return -1;
  std::vector<uint8_t> pixels(static_cast<size_t>(choices.or_border(fitting, 0, kMost)));
  for (size_t i = 0, some; i < pixels.size() && !choices.empty(); i += some) {
    some = std::min(choices.size(), pixels.size() - i);
    std::memcpy(pixels.data() + i, choices.data(), some);
  }
  params.pixels = pixels.data();
  params.byte_length = pixels.size();

  test::refuses([&] {
    const Preprocessed result = preprocess(params);
    const auto area = static_cast<size_t>(params.side * params.side);
    if (result.bytes.size() != 3 * area || result.pixels.size() != 3 * area) std::abort();
  });
  return 0;
}
