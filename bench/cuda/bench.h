// What the sections of a run share, and the sections: each measures, prints its table and leaves what later ones compare with.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "bench/cuda/cublaslt.h"
#include "bench/cuda/floors.h"
#include "bench/cuda/gpu.h"
#include "bench/cuda/options.h"
#include "bench/cuda/report.h"
#include "native/backend/backend.h"

namespace himap::bench {

/** What the run must show, told as it is found. */
class Thresholds {
 public:
  void at_most(const std::string& what, double value, double limit) {
    list_.push_back({what, value, "at most", limit, value <= limit});
  }
  void at_least(const std::string& what, double value, double limit) {
    list_.push_back({what, value, "at least", limit, value >= limit});
  }
  Table table() const;

 private:
  struct One {
    std::string what;
    double value;
    const char* must;
    double limit;
    bool holds;
  };
  std::vector<One> list_;
};

/** What end to end runs took, for comparisons across sections: milliseconds by (batch, text, pruned). */
using Times = std::map<std::tuple<int64_t, int64_t, bool>, double>;

struct Bench {
  const Options& options;
  Report& report;
  Thresholds& thresholds;
  Backend& backend;  // of single kernels, in this program; the engine opens its own
  Gpu& gpu;
  const CublasLt* maybe_rival;
  std::string rival_name;  // or why there is none
  std::set<std::string> rival_faults{};
  Ceilings ceilings{};
  Times first_token;       // vision, projector and prefill
  Times decode_step;       // text: Options::decode_text

  /** Median microseconds of an operation, the second-level cache cold. */
  double time(const std::function<void()>& operation) const {
    constexpr int32_t kWarm = 3;
    return median(gpu.times(options.quick ? 1 : kWarm, options.kernel_repeats, true, operation));
  }
};

/** A product by cuBLASLt: the fastest of the kernels that it recommends. Not a number where it fails; `rival_faults` says why. */
double rival_time(Bench& bench, const Product& product, const void* x, const void* weight, void* y, void* workspace);

/** Fills device memory with random bf16 numbers. */
void fill_random(Backend& backend, void* to, int64_t elements, uint64_t seed);

const char* pruning_name(bool pruned);

void measure_ceilings(Bench& bench);
void measure_engine(Bench& bench);     // prompts, then throughput, with one engine
void measure_products(Bench& bench);
void measure_attention(Bench& bench);
void measure_rows(Bench& bench);       // first rows, norm, rotation, selection, compaction, candidates
void measure_rival(Bench& bench);

}  // namespace himap::bench
