#include "bench/cuda/options.h"

#include <algorithm>
#include <sstream>
#include <stdexcept>

#include "bench/cuda/models.h"

namespace himap::bench {
namespace {

Options card_options(bool quick) {
  Options options;
  options.quick = quick;
  options.model = llava_7b();
  options.gemm_models = {{"7B", llava_7b()}, {"13B", llava_13b()}};
  options.gemm_rows = {1, 8, 32, 128, 132, 172, 207, 348, 424, 676, 5408};
  options.vision_images = {1, 8};
  options.decode_rows_most = 128;
  options.text_lengths = {60, 135};
  options.decode_text = 100;
  options.prompts = {{1, 15}, {8, 7}, {32, 3}};
  options.decode_batches = {1, 8, 32, 128};
  // Behind a prompt of 676: timed steps attend to 725 to 756 tokens, 740.5 on average.
  options.warm_tokens = 48;
  options.bursts = 4;
  options.burst_tokens = 8;
  options.prompts_at_once = 8;
  options.ceiling_side = 8192;
  options.copy_bytes = int64_t{2} << 30;
  options.kernel_repeats = 21;
  if (quick) {
    options.gemm_models = {{"7B", llava_7b()}};
    options.gemm_rows = {1, 32, 207, 676};
    options.vision_images = {1};
    options.text_lengths = {60};
    options.prompts = {{1, 7}, {8, 3}};
    options.decode_batches = {1, 32};
    options.bursts = 2;
    options.kernel_repeats = 7;
  }
  return options;
}

Options tiny_options() {
  Options options;
  options.quick = true;
  options.model = llava_tiny();
  options.gemm_models = {{"tiny", llava_tiny()}};
  options.gemm_rows = {1, 9};
  options.vision_images = {1, 2};
  options.decode_rows_most = 1;
  options.text_lengths = {12};
  options.decode_text = 12;
  options.prompts = {{1, 1}, {2, 1}};
  options.decode_batches = {1, 3};
  options.warm_tokens = 2;
  options.bursts = 1;
  options.burst_tokens = 2;
  options.prompts_at_once = 2;
  options.ceiling_side = 64;
  options.copy_bytes = 1 << 16;
  options.kernel_repeats = 1;
  return options;
}

/** Throws unless every section that is asked for exists. */
void check_sections(const std::string& only) {
  static const char* const kSections[] = {"ceilings", "prompts", "decode", "products", "attention", "rows", "rival"};
  std::istringstream list(only);
  for (std::string section; std::getline(list, section, ',');) {
    if (std::none_of(std::begin(kSections), std::end(kSections), [&](const char* name) { return section == name; })) {
      throw std::runtime_error("expected ceilings, prompts, decode, products, attention, rows or rival for --only but received " +
                               section);
    }
  }
}

}  // namespace

Options read_options(int argc, char** argv) {
  bool quick = false, tiny = false;
  std::string backend = "cuda", folder = HIMAP_LIBRARY_FOLDER, json, rival, only;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 >= argc) throw std::runtime_error("expected a value after " + flag);
      return argv[++i];
    };
    if (flag == "--short") quick = true;
    else if (flag == "--tiny") tiny = true;
    else if (flag == "--backend") backend = value();
    else if (flag == "--library") folder = value();
    else if (flag == "--json") json = value();
    else if (flag == "--rival") rival = value();
    else if (flag == "--only") only = value();
    else {
      throw std::runtime_error("expected --short, --tiny, --backend, --library, --json, --rival or --only but received " + flag);
    }
  }
  check_sections(only);
  Options options = tiny ? tiny_options() : card_options(quick);
  options.backend = backend;
  options.library_folder = folder;
  options.json = json;
  options.rival = rival;
  options.only = only;
  return options;
}

}  // namespace himap::bench
