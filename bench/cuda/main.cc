// himap_bench_cuda: what the card can do, what each kernel and the whole engine reach of it, and a rival's times beside them.
// scripts/cuda.sh bench runs it; `--only ceilings,prompts,decode,products,attention,rows,rival` takes a part (ceilings always).
#include <cstdio>
#include <exception>

#include "bench/cuda/bench.h"
#include "bench/cuda/machine.h"

extern "C" const himap::BackendApi* himap_backend();

namespace himap::bench {
namespace {

void run(const Options& options) {
  Report report(options.json);
  Thresholds thresholds;
  Backend backend(*himap_backend(), DeviceOptions{.threads = 0, .activations = DType::kBF16});
  Gpu gpu(backend.device());
  std::string rival_name;
  const std::unique_ptr<CublasLt> rival = CublasLt::open(rival_name);
  Bench bench{options, report, thresholds, backend, gpu, rival.get(), rival_name, {}, {}, {}};
  machine_facts(report, options);

  measure_ceilings(bench);
  if (options.wants("prompts") || options.wants("decode")) measure_engine(bench);
  if (options.wants("products")) measure_products(bench);
  if (options.wants("attention")) measure_attention(bench);
  if (options.wants("rows")) measure_rows(bench);
  if (options.wants("rival")) measure_rival(bench);
  report.fact("clocksAfter", words(card_clocks()));
  report.finish(thresholds.table());
}

}  // namespace
}  // namespace himap::bench

int main(int argc, char** argv) {
  try {
    himap::bench::run(himap::bench::read_options(argc, argv));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "himap: the bench ended: %s\n", error.what());
    return 1;
  }
}
