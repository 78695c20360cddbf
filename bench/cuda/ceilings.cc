// What the card can do at most: bytes moved by large copies and reads, FLOP of one large square product.
#include <algorithm>
#include <cmath>

#include "bench/cuda/bench.h"
#include "bench/cuda/models.h"

namespace himap::bench {
namespace {

constexpr int32_t kWarm = 3;

/** FLOP/s of our own product of that side, by the prefill family. */
double own_rate(Bench& bench, const void* x, void* y, const std::vector<uint16_t>& weight_bits, int64_t side) {
  const WeightRef weight(bench.backend, {{weight_bits.data(), DType::kBF16, side, side}}, WeightLayout::kStacked);
  const LinearParams params{.x = x,
                            .weight = weight.get(),
                            .maybe_bias = nullptr,
                            .maybe_residual = nullptr,
                            .y = y,
                            .rows = side,
                            .phase = Phase::kPrefill,
                            .epilogue = Epilogue::kNone};
  const double microseconds = median(bench.gpu.times(kWarm, bench.options.kernel_repeats, false,
                                                     [&] { bench.backend.run(&BackendApi::linear, params); }));
  return linear_work(side, side, side).flops / (1e-6 * microseconds);
}

}  // namespace

void measure_ceilings(Bench& bench) {
  const Options& options = bench.options;
  const auto bytes = static_cast<size_t>(options.copy_bytes);
  double copied = 0, read = 0;
  {
    const Buffer from(bench.backend, bytes), to(bench.backend, bytes);
    fill_random(bench.backend, from.as<void>(), options.copy_bytes / 2, 1);
    const auto seconds = [&](const std::function<void()>& operation) {
      return 1e-6 * median(bench.gpu.times(kWarm, options.kernel_repeats, false, operation));
    };
    copied = 2 * static_cast<double>(bytes) / seconds([&] {
      bench.backend.call(&BackendApi::copy, to.as<void>(), static_cast<const void*>(from.as<void>()), bytes);
    });
    read = static_cast<double>(bytes) / seconds([&] { bench.gpu.read(from.as<void>(), bytes); });
  }

  const int64_t side = options.ceiling_side;
  const std::vector<uint16_t> weight_bits = random_bf16(side * side, 2);
  Buffer weight(bench.backend), x(bench.backend), y(bench.backend, static_cast<size_t>(2 * side * side));
  x.upload(random_bf16(side * side, 3));
  const double own = own_rate(bench, x.as<void>(), y.as<void>(), weight_bits, side);
  double rival = NAN;
  if (bench.maybe_rival) {
    weight.upload(weight_bits);
    const Buffer workspace(bench.backend, CublasLt::kWorkspaceBytes);
    const double microseconds =
        rival_time(bench, {side, side, side, false}, x.as<void>(), weight.as<void>(), y.as<void>(), workspace.as<void>());
    rival = linear_work(side, side, side).flops / (1e-6 * microseconds);
  }
  bench.ceilings = {std::max(copied, read), std::fmax(own, rival)};  // a rival that failed is not a number

  Table table("ceilings", "Ceilings of the card, measured in this run", {{"what", "what"}, {"value", "value"}, {"unit", "unit"}});
  const double gigabytes = 1e-9, teraflops = 1e-12;
  table.add({words("copy, read and written bytes"), number(copied * gigabytes, 0), words("GB/s")});
  table.add({words("read"), number(read * gigabytes, 0), words("GB/s")});
  const std::string shape = "bf16 product of side " + std::to_string(side);
  table.add({words(shape + ", ours"), number(own * teraflops, 0), words("TFLOP/s")});
  table.add({words(shape + ", cuBLASLt"), number(rival * teraflops, 0), words("TFLOP/s")});
  table.note("Floors below take the larger of each pair. cuBLASLt: " + bench.rival_name + ".");
  bench.report.finish(table);
}

}  // namespace himap::bench
