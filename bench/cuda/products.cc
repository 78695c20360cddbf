// Every matrix of the decoder at the row counts that prompts and batches have, and those of the tower and the projector at the
// rows of pictures, beside cuBLASLt's plain product of the same shape: it has no SwiGLU, and ours of gate+up has it inside.
#include <algorithm>
#include <cmath>
#include <memory>

#include "bench/cuda/bench.h"
#include "bench/cuda/models.h"
#include "kernels/float16.h"

namespace himap::bench {
namespace {

struct Case {
  std::string model;
  Matrix matrix;
  bool gate_up;
  bool head;  // the vocabulary: float32 logits, by decode's kernels whatever the rows
  std::vector<int64_t> rows;
  bool vision;  // by prefill's kernels whatever the rows
};

float value_at(const std::vector<uint16_t>& bits, size_t index) {
  Bf16 one;
  one.bits = bits[index];
  return to_float(one);
}

/** A row of results, as float. */
std::vector<float> result_row(Backend& backend, const Buffer& y, int64_t row, int64_t columns, bool is_float) {
  const auto n = static_cast<size_t>(columns);
  std::vector<float> values(n);
  if (is_float) {
    backend.download(values.data(), y.as<float>() + row * columns, n);
    return values;
  }
  std::vector<uint16_t> bits(n);
  backend.download(bits.data(), y.as<uint16_t>() + row * columns, n);
  for (size_t i = 0; i < n; ++i) values[i] = value_at(bits, i);
  return values;
}

/** The largest difference of two rows of results, relative to the largest result. `theirs` is before SwiGLU. */
double difference(const std::vector<float>& ours, const std::vector<float>& theirs, bool gate_up) {
  double worst = 0, largest = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    double right = theirs[i];
    if (gate_up) right = right / (1 + std::exp(-right)) * static_cast<double>(theirs[i + ours.size()]);
    const double off = std::abs(static_cast<double>(ours[i]) - right);
    worst = off <= worst ? worst : off;  // a NaN stays
    largest = std::max(largest, std::abs(right));
  }
  return largest > 0 ? worst / largest : worst;
}

constexpr double kSameResult = 0.02;  // of the largest: a few roundings to bf16

class Products {
 public:
  explicit Products(Bench& bench)
      : bench_(bench), x_(bench.backend), y_(bench.backend), rival_y_(bench.backend), rival_weight_(bench.backend),
        workspace_(bench.backend) {
    if (bench.maybe_rival) workspace_.reserve(CublasLt::kWorkspaceBytes);
  }

  void run(const Case& one) {
    const int64_t most_rows = *std::max_element(one.rows.begin(), one.rows.end());
    const Matrix& matrix = one.matrix;
    const std::vector<uint16_t> bits = random_bf16(matrix.out * matrix.in, 5);
    std::vector<WeightPart> parts = {{bits.data(), DType::kBF16, matrix.out, matrix.in}};
    if (one.gate_up) {
      parts[0].out /= 2;
      parts.push_back({bits.data() + matrix.out / 2 * matrix.in, DType::kBF16, matrix.out / 2, matrix.in});
    }
    const WeightRef weight(bench_.backend, parts, one.gate_up ? WeightLayout::kGateUp : WeightLayout::kStacked);
    x_.upload(random_bf16(most_rows * matrix.in, 7));
    if (bench_.maybe_rival) rival_weight_.upload(bits);
    for (const int64_t rows : one.rows) time_rows(one, weight, rows);
  }

  void finish() {
    const char* rival = bench_.maybe_rival ? "cuBLASLt computes the plain product; for gate+up ours has SwiGLU inside. No biases."
                                           : "cuBLASLt could not be opened, so there is no rival.";
    table_.note(rival);
    for (const std::string& fault : bench_.rival_faults) table_.note("cuBLASLt failed: " + fault);
    bench_.report.finish(table_);
    if (compared_ == 0) return;
    bench_.thresholds.at_least("prefill products: slowest of cuBLASLt's speed (" + slowest_name_ + ")", slowest_,
                               0.9);
    bench_.thresholds.at_most("products: largest difference from cuBLASLt", largest_difference_, kSameResult);
  }

 private:
  void time_rows(const Case& one, const WeightRef& weight, int64_t rows) {
    const Matrix& matrix = one.matrix;
    const bool prefill = one.vision || (!one.head && rows > bench_.options.decode_rows_most);
    const int64_t columns = one.gate_up ? matrix.out / 2 : matrix.out;
    y_.reserve(static_cast<size_t>(rows * columns * (one.head ? 4 : 2)));
    const LinearParams linear{.x = x_.as<void>(), .weight = weight.get(), .maybe_bias = nullptr, .maybe_residual = nullptr,
                              .y = y_.as<void>(), .rows = rows, .phase = prefill ? Phase::kPrefill : Phase::kDecode,
                              .epilogue = one.gate_up ? Epilogue::kSwiGlu : Epilogue::kNone};
    const LogitsParams logits{.x = x_.as<void>(), .weight = weight.get(), .y = y_.as<float>(), .rows = rows};
    const double ours = bench_.time([&] {
      if (one.head) bench_.backend.run(&BackendApi::logits, logits);
      else bench_.backend.run(&BackendApi::linear, linear);
    });
    double theirs = NAN, off = NAN;
    if (bench_.maybe_rival) {
      rival_y_.reserve(static_cast<size_t>(rows * matrix.out * (one.head ? 4 : 2)));
      theirs = rival_time(bench_, {rows, matrix.out, matrix.in, one.head}, x_.as<void>(), rival_weight_.as<void>(),
                          rival_y_.as<void>(), workspace_.as<void>());
    }
    if (std::isfinite(theirs)) {
      off = 0;
      for (const int64_t row : {int64_t{0}, rows - 1}) {
        const double now = difference(result_row(bench_.backend, y_, row, columns, one.head),
                                      result_row(bench_.backend, rival_y_, row, matrix.out, one.head), one.gate_up);
        off = now <= off ? off : now;
      }
      compare(one, rows, prefill, theirs / ours, off);
    }
    const Work work = linear_work(rows, matrix.out, matrix.in);
    const double floor = 1e6 * floor_seconds(work, bench_.ceilings);
    table_.add({words(one.model + " " + matrix.name), number(static_cast<double>(rows), 0), words(prefill ? "prefill" : "decode"),
                number(ours, 1), number(work.flops / ours * 1e-6, 0), number(work.bytes / ours * 1e-3, 0), number(floor, 1),
                share(floor / ours), number(theirs, 1), share(theirs / ours), number(off, 4)});
  }

  void compare(const Case& one, int64_t rows, bool prefill, double speed, double off) {
    ++compared_;
    largest_difference_ = off <= largest_difference_ ? largest_difference_ : off;
    if (!prefill || speed >= slowest_) return;
    slowest_ = speed;
    slowest_name_ = one.model + " " + one.matrix.name + ", " + std::to_string(rows) + " rows";
  }

  Bench& bench_;
  Buffer x_, y_, rival_y_, rival_weight_, workspace_;
  Table table_{"products", "Matrix products",
               {{"matrix", "matrix"}, {"rows", "rows"}, {"phase", "kernels of"}, {"microseconds", "us"}, {"teraflops", "TFLOP/s"},
                {"gigabytes", "GB/s"}, {"floor", "floor, us"}, {"ofFloor", "floor / ours"}, {"cublasLt", "cuBLASLt, us"},
                {"ofCublasLt", "of its speed"}, {"difference", "difference"}}};
  int64_t compared_ = 0;
  double slowest_ = INFINITY, largest_difference_ = 0;
  std::string slowest_name_;
};

}  // namespace

void measure_products(Bench& bench) {
  const Options& options = bench.options;
  Products products(bench);
  for (const auto& [name, model] : options.gemm_models) {
    for (const Matrix& matrix : decoder_matrices(model)) {
      products.run({name, matrix, std::string(matrix.name) == "gate+up", false, options.gemm_rows, false});
    }
    products.run({name, {"lm_head", model.vocabulary, model.hidden}, false, true, options.gemm_rows, false});
  }
  // The first model's: the tower is the same in all.
  const auto& [name, model] = options.gemm_models.front();
  std::vector<int64_t> tower_rows, projector_rows;
  for (const int64_t images : options.vision_images) {
    tower_rows.push_back(images * (model.vision.patches() + 1));
    projector_rows.push_back(images * model.image_tokens);
  }
  for (const Matrix& matrix : tower_matrices(model.vision)) products.run({name, matrix, false, false, tower_rows, true});
  for (const Matrix& matrix : projector_matrices(model)) products.run({name, matrix, false, false, projector_rows, true});
  products.finish();
}

}  // namespace himap::bench
