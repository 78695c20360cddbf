// A manifest: parsed; and where its files could be small, opened on files of zeros of just these sizes, and run.
#include <string>
#include <string_view>

#include "native/engine/engine.h"
#include "test/fuzz/native/target.h"
#include "test/native/tiny_model.h"

using namespace himap;

namespace {

constexpr int64_t kMostBytes = 1 << 20;
constexpr int64_t kMostAngles = 1 << 16;
constexpr size_t kMostFiles = 4;

/** Whether opening it is quick: the run is about limits and offsets, not about memory's speed. */
bool small(const Manifest& manifest) {
  const ModelConfig& config = manifest.config;
  int64_t bytes = 0;
  for (const FileSpec& file : manifest.files) {
    bytes += file.bytes;
    if (file.bytes > kMostBytes) return false;
  }
  return manifest.files.size() <= kMostFiles && bytes <= kMostBytes && config.max_positions * config.head_dim <= kMostAngles;
}

/** The manifest with other paths: the n-th file is `paths[n]`. */
std::string with_paths(std::string_view text, const std::vector<std::string>& paths) {
  std::string result;
  size_t file = 0;
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    std::string line(text.substr(0, newline));
    text = newline == std::string_view::npos ? std::string_view() : text.substr(newline + 1);
    if (line.rfind("file ", 0) == 0) line = line.substr(0, line.find(' ', 5) + 1) + paths[file++];
    result += line + "\n";
  }
  return result;
}

/** One step on whatever model this is: an image, a word, two passes. */
StepInput some_step(const ModelConfig& config) {
  StepInput input;
  const int64_t side = config.vision.image_size;
  StepImage& image = input.images.emplace_back();
  image.pixels.assign(static_cast<size_t>(3 * side * side), 0.5f);
  StepSequence& sequence = input.sequences.emplace_back();
  sequence.ids.assign(static_cast<size_t>(config.image_tokens), -1);
  sequence.ids.push_back(0);
  for (int32_t row = 0; row < static_cast<int32_t>(sequence.ids.size()); ++row) sequence.positions.push_back(row);
  sequence.spans = {{0, config.image_tokens, 0}};
  const int64_t blocks = (sequence.rows() + 1 + kPageTokens - 1) / kPageTokens;
  sequence.stages = {{0, blocks, std::vector<int32_t>(static_cast<size_t>(config.layers * blocks), 0)}};
  sequence.burst = 2;
  return input;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  Manifest manifest;
  if (test::refuses([&] { manifest = parse_manifest(text); }) || !small(manifest)) return 0;

  std::vector<std::unique_ptr<test::MemoryFile>> files;
  std::vector<std::string> paths;
  for (const FileSpec& file : manifest.files) {
    files.push_back(std::make_unique<test::MemoryFile>(file.bytes));
    paths.push_back(files.back()->path());
  }
  EngineOptions options;
  options.library_folder = HIMAP_LIBRARY_FOLDER;
  options.threads = 1;
  options.copy_weights = size % 2 == 0;
  options.kv_type = static_cast<DType>(size % 3);
  options.kv_pages = 1;
  test::refuses([&] {
    Engine engine(with_paths(text, paths), options, nullptr);
    engine.step(some_step(manifest.config), 1);
  });
  return 0;
}
