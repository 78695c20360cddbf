// What a run measures. The card's shapes, or a tiny one that lets the host's SIMT machine pass through every line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "native/model/manifest.h"

namespace himap::bench {

struct NamedModel {
  std::string name;
  ModelConfig config;
};

/** Prompts in one step, and how often it is timed. */
struct Batch {
  int64_t requests;
  int32_t repeats;
};

struct Options {
  std::string backend;         // "cuda" or "shim": the library that the engine opens
  std::string library_folder;  // where it lies
  std::string json;            // the results file; "" for none
  std::string rival;           // a command that measures another program (rivals/); "" for none
  std::string only;            // comma-separated sections; "" for all
  bool quick = false;

  ModelConfig model;                        // end to end, attention and rows
  std::vector<NamedModel> gemm_models;
  std::vector<int64_t> gemm_rows;
  std::vector<int64_t> vision_images;       // of the tower's and the projector's products
  int64_t decode_rows_most;                 // products of up to so many rows are decode's
  std::vector<int64_t> text_lengths;        // text tokens beside one image, for prompts
  int64_t decode_text;                      // the same, for decode
  std::vector<Batch> prompts;
  std::vector<int64_t> decode_batches;      // sequences in one step
  int64_t warm_tokens;                      // decoded before timing begins
  int32_t bursts;                           // timed, and
  int64_t burst_tokens;                     // tokens of each
  int64_t prompts_at_once;                  // of the throughput runs' prefill
  int64_t ceiling_side;                     // of the square product that shows the rate
  int64_t copy_bytes;                       // that show the bandwidth
  int32_t kernel_repeats;

  bool wants(const std::string& section) const {
    return only.empty() || ("," + only + ",").find("," + section + ",") != std::string::npos;
  }
};

/** Throws std::runtime_error, naming what is wrong, for arguments that are not understood. */
Options read_options(int argc, char** argv);

}  // namespace himap::bench
