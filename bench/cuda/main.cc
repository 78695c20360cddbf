// himap_bench_cuda: what the card can do, what each kernel and the whole engine reach of it, and a rival's times beside them.
// scripts/cuda.sh bench runs it; `--only ceilings,prompts,decode,products,attention,rows,rival` takes a part (ceilings always).
#include <cstdio>
#include <exception>

#include "bench/cuda/bench.h"
#include "bench/cuda/machine.h"

extern "C" const himap::BackendApi* himap_backend();

namespace himap::bench {
namespace {

/** Whether every section came to its end. */
bool run(const Options& options) {
  Report report(options.json);
  Thresholds thresholds;
  Backend backend(*himap_backend(), DeviceOptions{.threads = 0, .activations = DType::kBF16});
  Gpu gpu(backend.device());
  std::string rival_name;
  const std::unique_ptr<CublasLt> rival = CublasLt::open(rival_name);
  Bench bench{options, report, thresholds, backend, gpu, rival.get(), rival_name};
  machine_facts(report, options);

  measure_ceilings(bench);
  // What one section meets is told, and the next one runs; after a lost device none can.
  bool whole = true;
  const auto section = [&](bool wanted, const char* name, void (*measure)(Bench&)) {
    if (!wanted) return;
    try {
      measure(bench);
    } catch (const Error& error) {
      if (error.code == Code::ERR_DEVICE_LOST) throw;
      whole = false;
      std::printf("\n%s ended: %s\n", name, error.what());
      report.fact(std::string(name) + "Ended", words(error.message));
    }
  };
  section(options.wants("prompts") || options.wants("decode"), "engine", measure_engine);
  section(options.wants("products"), "products", measure_products);
  section(options.wants("attention"), "attention", measure_attention);
  section(options.wants("rows"), "rows", measure_rows);
  section(options.wants("rival"), "rival", measure_rival);
  report.fact("clocksAfter", words(card_clocks()));
  report.finish(thresholds.table());
  return whole;
}

}  // namespace
}  // namespace himap::bench

int main(int argc, char** argv) {
  try {
    return himap::bench::run(himap::bench::read_options(argc, argv)) ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "himap: the bench ended: %s\n", error.what());
    return 1;
  }
}
