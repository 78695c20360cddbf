#include "bench/cuda/bench.h"

#include <algorithm>
#include <cmath>

#include "bench/cuda/models.h"

namespace himap::bench {

Table Thresholds::table() const {
  Table table("thresholds", "What is asked for",
              {{"what", "what"}, {"value", "value"}, {"must", "must be"}, {"limit", "limit"}, {"holds", "holds"}});
  size_t held = 0;
  for (const One& one : list_) {
    table.add({words(one.what),
               number(one.value, 3),
               words(one.must),
               number(one.limit, 2),
               {one.holds ? "pass" : "MISS", one.holds ? "true" : "false"}});
    held += one.holds;
  }
  table.note(std::to_string(held) + " of " + std::to_string(list_.size()) + " hold.");
  return table;
}

double rival_time(Bench& bench, const Product& product, const void* x, const void* weight, void* y, void* workspace) try {
  constexpr int32_t kKernels = 5, kTrials = 3;
  const std::unique_ptr<CublasLt::Plan> plan = bench.maybe_rival->plan(product, kKernels);
  const auto run = [&](size_t kernel) { return [&, kernel] { plan->run(kernel, x, weight, y, workspace, bench.gpu.stream()); }; };
  size_t best = 0;
  double least = 0;
  for (size_t kernel = 0; kernel < plan->kernels(); ++kernel) {
    const double microseconds = median(bench.gpu.times(1, kTrials, true, run(kernel)));
    if (kernel > 0 && microseconds >= least) continue;
    least = microseconds;
    best = kernel;
  }
  return bench.time(run(best));
} catch (const Error& error) {
  bench.rival_faults.insert(error.message);
  return NAN;
}

void fill_random(Backend& backend, void* to, int64_t elements, uint64_t seed) {
  constexpr int64_t kAtOnce = int64_t{32} << 20;
  const std::vector<uint16_t> bits = random_bf16(std::min(elements, kAtOnce), seed);
  for (int64_t at = 0; at < elements; at += kAtOnce) {
    const int64_t count = std::min(kAtOnce, elements - at);
    backend.call(&BackendApi::upload, static_cast<void*>(static_cast<uint16_t*>(to) + at), static_cast<const void*>(bits.data()),
                 static_cast<size_t>(2 * count));
  }
}

const char* pruning_name(bool pruned) { return pruned ? "himap" : "dense"; }

}  // namespace himap::bench
