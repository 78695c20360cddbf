// A model of a few kilobytes in memory, for tests that open an engine thousands of times.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "native/engine/step.h"
#include "test/native/made_model.h"

namespace himap::test {

// The shape of the tiny model.
constexpr int64_t kTinyLayers = 3;
constexpr int64_t kTinyVocabulary = 40;
constexpr int64_t kTinyPositions = 96;
constexpr int64_t kTinyImageSide = 6;    // pixels
constexpr int64_t kTinyImageTokens = 9;
constexpr int64_t kTinyHidden = 16;

/** Its weights, F32, and its manifest for a file at `path`. */
std::vector<uint8_t> tiny_weights();
std::string tiny_manifest(const std::string& path);

/** Pages that `tiny_prompt` and its decode rows use. */
constexpr int64_t kTinyPages = 24;

/** A prompt with one image between text, cut twice, that goes on for `burst` passes. Its pages begin at `first_page`. */
StepSequence tiny_prompt(int64_t burst, int32_t first_page = 0);

/** The row behind what tiny_prompt(1) left. */
StepSequence tiny_decode(int32_t id, int64_t burst, int32_t first_page = 0);

/** Normalised pixels of one image. */
std::vector<float> tiny_pixels();

}  // namespace himap::test
