// linear, logits and patch_embed of the CPU backend: values, epilogues, and rows that do not know their neighbours.
#include <sys/mman.h>
#include <unistd.h>

#include "test/native/cpu_fixture.h"

using namespace himap;
using namespace himap::test;

namespace {

/** A weight with its bytes, each part one byte away from alignment. */
struct Stored {
  std::vector<std::vector<char>> bytes;
  std::vector<WeightPart> parts;
  std::vector<float> values;  // (out, in) what the bytes mean
  int64_t out = 0;

  void add(DType type, int64_t rows, int64_t in, Random& random) {
    std::vector<char> encoded = encode(type, random.normals(rows * in, 0.3f));
    const std::vector<float> meant = decode_all(type, encoded);
    values.insert(values.end(), meant.begin(), meant.end());
    encoded.insert(encoded.begin(), 'x');
    bytes.push_back(std::move(encoded));
    parts.push_back({bytes.back().data() + 1, type, rows, in});
    out += rows;
  }

  Weight* import(Cpu& cpu, WeightLayout layout = WeightLayout::kStacked) const {
    Weight* weight = nullptr;
    CHECK_OK(cpu, cpu.api.weight_import(cpu.device, parts.data(), static_cast<int32_t>(parts.size()), layout, &weight));
    return weight;
  }
};

template <class Real>
Real activation(Epilogue epilogue, Real x) {
  if (epilogue == Epilogue::kQuickGelu) return x / (1 + std::exp(static_cast<Real>(-1.702f) * x));
  if (epilogue == Epilogue::kGelu) return x / 2 * (1 + std::erf(x * static_cast<Real>(0.70710678118654752)));
  return x;
}

struct Problem {
  int64_t rows, in;
  Epilogue epilogue;
  std::vector<float> x, bias, residual;  // bias and residual may be empty
  const Stored& weight;

  int64_t columns() const { return epilogue == Epilogue::kSwiGlu ? weight.out / 2 : weight.out; }

  /** A plain loop in the given arithmetic. */
  template <class Real>
  std::vector<Real> solve() const {
    const int64_t n = columns();
    std::vector<Real> y(static_cast<size_t>(rows * n));
    const auto dot = [&](int64_t r, int64_t c) {
      Real sum = 0;
      for (int64_t k = 0; k < in; ++k) sum += static_cast<Real>(x[r * in + k]) * static_cast<Real>(weight.values[c * in + k]);
      return bias.empty() ? sum : sum + static_cast<Real>(bias[c]);
    };
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < n; ++c) {
        Real value = dot(r, c);
        if (epilogue == Epilogue::kSwiGlu) value = value / (1 + std::exp(-value)) * dot(r, n + c);
        else value = activation(epilogue, value);
        y[r * n + c] = residual.empty() ? value : value + static_cast<Real>(residual[r * n + c]);
      }
    }
    return y;
  }

  /** Rows [first, first + count) on a device. */
  std::vector<float> run(Cpu& cpu, const Weight* imported, Phase phase, int64_t first, int64_t count) const {
    Fenced<float> y(count * columns());
    const LinearParams params{.x = x.data() + first * in,
                              .weight = imported,
                              .maybe_bias = bias.empty() ? nullptr : bias.data(),
                              .maybe_residual = residual.empty() ? nullptr : residual.data() + first * columns(),
                              .y = y.data(),
                              .rows = count,
                              .phase = phase,
                              .epilogue = epilogue};
    CHECK_OK(cpu, cpu.api.linear(cpu.device, &params));
    CHECK(y.intact());
    return y.take();
  }
};

struct Shape {
  int64_t rows, in, out;
};

const Shape kShapes[] = {{1, 8, 8},     {37, 40, 40},  {63, 588, 24}, {64, 64, 65}, {65, 1000, 37},
                         {1, 1000, 130}, {391, 40, 8}, {577, 24, 1},  {5, 777, 33}};

}  // namespace

TEST("linear: both phases, every type, awkward sizes") {
  for (const Shape& shape : kShapes) {
    for (DType type : kTypes) {
      Random random(static_cast<uint32_t>(shape.rows * 31 + shape.in));
      Stored weight;
      weight.add(type, shape.out, shape.in, random);
      const Problem problem{shape.rows, shape.in, Epilogue::kNone, random.normals(shape.rows * shape.in), {}, {}, weight};
      const std::vector<double> exact = problem.solve<double>();
      const std::vector<float> plain = problem.solve<float>();
      for_each_cpu(1, [&](Cpu& cpu) {
        Weight* imported = weight.import(cpu);
        for (Phase phase : {Phase::kPrefill, Phase::kDecode}) {
          check_close(problem.run(cpu, imported, phase, 0, shape.rows), exact, plain,
                      std::string(cpu.info.detail) + " " + type_name(type) + " " + std::to_string(shape.rows) + "x" +
                          std::to_string(shape.in) + "x" + std::to_string(shape.out) + " phase " +
                          std::to_string(static_cast<int>(phase)));
        }
        cpu.api.weight_release(cpu.device, imported);
      });
    }
  }
}

TEST("linear: bias, residual and every epilogue, on parts of different types") {
  for (Epilogue epilogue : {Epilogue::kNone, Epilogue::kQuickGelu, Epilogue::kGelu, Epilogue::kSwiGlu}) {
    Random random(7);
    const int64_t rows = 37;
    const int64_t in = 72;
    const bool pair = epilogue == Epilogue::kSwiGlu;
    Stored weight;
    weight.add(DType::kF16, pair ? 100 : 40, in, random);
    weight.add(DType::kF32, pair ? 100 : 9, in, random);
    if (!pair) weight.add(DType::kBF16, 70, in, random);
    Problem problem{rows, in, epilogue, random.normals(rows * in), random.normals(weight.out), {}, weight};
    problem.residual = random.normals(rows * problem.columns());
    const std::vector<double> exact = problem.solve<double>();
    const std::vector<float> plain = problem.solve<float>();
    for_each_cpu(2, [&](Cpu& cpu) {
      Weight* imported = weight.import(cpu, pair ? WeightLayout::kGateUp : WeightLayout::kStacked);
      for (Phase phase : {Phase::kPrefill, Phase::kDecode}) {
        const std::string what = std::string(cpu.info.detail) + " epilogue " + std::to_string(static_cast<int>(epilogue));
        const std::vector<float> y = problem.run(cpu, imported, phase, 0, rows);
        check_close(y, exact, plain, what);
        // The residual may be y itself.
        Fenced<float> in_place(rows * problem.columns());
        std::copy(problem.residual.begin(), problem.residual.end(), in_place.data());
        const LinearParams params{.x = problem.x.data(), .weight = imported, .maybe_bias = problem.bias.data(),
                                  .maybe_residual = in_place.data(), .y = in_place.data(), .rows = rows, .phase = phase,
                                  .epilogue = epilogue};
        CHECK_OK(cpu, cpu.api.linear(cpu.device, &params));
        CHECK(in_place.intact());
        CHECK(same_bits(in_place.take(), y));
      }
      cpu.api.weight_release(cpu.device, imported);
    });
  }
}

TEST("epilogues far from zero: no NaN, the right limits") {
  for_each_cpu(1, [&](Cpu& cpu) {
    const std::vector<float> one(8, 0.125f);
    for (Epilogue epilogue : {Epilogue::kQuickGelu, Epilogue::kGelu, Epilogue::kSwiGlu}) {
      const WeightPart parts[2] = {{one.data(), DType::kF32, 1, 8}, {one.data(), DType::kF32, 1, 8}};
      Weight* weight = nullptr;
      const bool pair = epilogue == Epilogue::kSwiGlu;
      CHECK_OK(cpu, cpu.api.weight_import(cpu.device, parts, pair ? 2 : 1, pair ? WeightLayout::kGateUp : WeightLayout::kStacked,
                                          &weight));
      for (float value : {-1e18f, -1000.0f, -90.0f, 1000.0f, 1e18f}) {
        const std::vector<float> x(8, value);
        float y = kNan;
        const LinearParams params{.x = x.data(), .weight = weight, .y = &y, .rows = 1, .phase = Phase::kDecode,
                                  .epilogue = epilogue};
        CHECK_OK(cpu, cpu.api.linear(cpu.device, &params));
        const double expected = value < 0 ? 0 : pair ? static_cast<double>(value) * value : value;
        CHECK(std::fabs(y - expected) <= std::fabs(expected) * 1e-6 + 1e-30);
      }
      cpu.api.weight_release(cpu.device, weight);
    }
  });
}

TEST("linear: a row's bits are the same alone, among others and on any number of threads") {
  for (DType type : kTypes) {
    for (Epilogue epilogue : {Epilogue::kQuickGelu, Epilogue::kSwiGlu}) {
      Random random(3);
      const int64_t rows = 401;  // two blocks of rows
      const int64_t in = 300;    // two blocks of depth, and a tail of every vector
      Stored weight;
      weight.add(type, 150, in, random);
      weight.add(type, 150, in, random);
      Problem problem{rows, in, epilogue, random.normals(rows * in), random.normals(300), {}, weight};
      problem.residual = random.normals(rows * problem.columns());
      const int64_t n = problem.columns();
      for (const char* set : sets()) {
        for (Phase phase : {Phase::kPrefill, Phase::kDecode}) {
          std::vector<float> all;
          for (int32_t threads : {1, 2, 3}) {
            Cpu cpu(set, threads);
            Weight* imported = weight.import(cpu, epilogue == Epilogue::kSwiGlu ? WeightLayout::kGateUp : WeightLayout::kStacked);
            const std::vector<float> y = problem.run(cpu, imported, phase, 0, rows);
            if (all.empty()) all = y;
            CHECK(same_bits(all, y));
            for (int64_t first : {0, 1, 13, 200, 383, 384, 400}) {
              CHECK(same_bits(problem.run(cpu, imported, phase, first, 1), slice(all, first * n, n)));
            }
            for (int64_t count : {2, 3, 7, 8, 37}) {
              CHECK(same_bits(problem.run(cpu, imported, phase, 5, count), slice(all, 5 * n, count * n)));
            }
            cpu.api.weight_release(cpu.device, imported);
          }
        }
      }
    }
  }
}

TEST("dot_rows: to ask for weights ahead changes no bit, and reaches over the end of memory unharmed") {
  const int64_t page = sysconf(_SC_PAGESIZE);
  for (DType type : kTypes) {
    for (const Shape& shape : {Shape{1, 8, 5}, Shape{1, 2048, 64}, Shape{1, 777, 33}, Shape{2, 5000, 37}, Shape{5, 777, 64}, Shape{15, 1000, 49}}) {
      Random random(13);
      const std::vector<char> encoded = encode(type, random.normals(shape.out * shape.in, 0.3f));
      const std::vector<float> x = random.normals(shape.rows * shape.in);
      // The weight's last byte is the last that may be read.
      const auto bytes = static_cast<int64_t>(encoded.size());
      const int64_t whole = (bytes + page - 1) / page * page;
      void* memory = mmap(nullptr, static_cast<size_t>(whole + page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      CHECK(memory != MAP_FAILED);
      CHECK_EQ(mprotect(static_cast<char*>(memory) + whole, static_cast<size_t>(page), PROT_NONE), 0);
      char* weight = static_cast<char*>(memory) + whole - bytes;
      std::copy(encoded.begin(), encoded.end(), weight);
      for (const char* set : sets()) {
        const auto dots = [&](bool prefetch) {
          Fenced<float> to(shape.rows * shape.out);
          kernels_of(set).dot_rows(weight, type, shape.in, shape.out, x.data(), shape.in, shape.rows, to.data(), shape.out, prefetch);
          CHECK(to.intact());
          return to.take();
        };
        CHECK(same_bits(dots(true), dots(false)));
      }
      munmap(memory, static_cast<size_t>(whole + page));
    }
  }
}

TEST("logits: the decode family's bits for one row and for many") {
  Random random(11);
  const int64_t rows = 70;
  const int64_t in = 96;
  Stored weight;
  weight.add(DType::kBF16, 501, in, random);
  const Problem problem{rows, in, Epilogue::kNone, random.normals(rows * in), {}, {}, weight};
  for_each_cpu(2, [&](Cpu& cpu) {
    Weight* imported = weight.import(cpu);
    const std::vector<float> decode = problem.run(cpu, imported, Phase::kDecode, 0, rows);
    Fenced<float> y(rows * 501);
    const LogitsParams all{.x = problem.x.data(), .weight = imported, .y = y.data(), .rows = rows};
    CHECK_OK(cpu, cpu.api.logits(cpu.device, &all));
    CHECK(y.intact());
    CHECK(same_bits(y.take(), decode));
    Fenced<float> last(501);
    const LogitsParams one{.x = problem.x.data() + 69 * in, .weight = imported, .y = last.data(), .rows = 1};
    CHECK_OK(cpu, cpu.api.logits(cpu.device, &one));
    CHECK(same_bits(last.take(), slice(decode, 69 * 501, 501)));
    cpu.api.weight_release(cpu.device, imported);
  });
}

TEST("linear: what would corrupt is refused") {
  Cpu cpu("portable");
  Random random(1);
  Stored weight;
  weight.add(DType::kF32, 8, 8, random);
  weight.add(DType::kF32, 8, 8, random);
  Weight* stacked = weight.import(cpu);
  Weight* pair = weight.import(cpu, WeightLayout::kGateUp);
  float memory[128] = {};
  const LinearParams good{.x = memory, .weight = stacked, .y = memory + 64, .rows = 1};
  const auto refused = [&](auto change) {
    LinearParams params = good;
    change(params);
    CHECK_REFUSED(cpu, cpu.api.linear(cpu.device, &params), Code::ERR_INVALID_ARG, "linear");
  };
  refused([](LinearParams& p) { p.rows = -1; });
  refused([](LinearParams& p) { p.x = nullptr; });
  refused([](LinearParams& p) { p.y = nullptr; });
  refused([](LinearParams& p) { p.weight = nullptr; });
  refused([](LinearParams& p) { p.epilogue = static_cast<Epilogue>(9); });
  refused([](LinearParams& p) { p.phase = static_cast<Phase>(2); });
  refused([](LinearParams& p) { p.epilogue = Epilogue::kSwiGlu; });
  refused([&](LinearParams& p) { p.weight = pair; });
  LinearParams none = good;
  none.rows = 0;
  none.x = none.y = nullptr;
  CHECK_OK(cpu, cpu.api.linear(cpu.device, &none));
  const LogitsParams logits{.x = memory, .weight = pair, .y = memory, .rows = 1};
  CHECK_REFUSED(cpu, cpu.api.logits(cpu.device, &logits), Code::ERR_INVALID_ARG, "logits");
  cpu.api.weight_release(cpu.device, stacked);
  cpu.api.weight_release(cpu.device, pair);
}

TEST("patch_embed: class row, patches in raster order, positions") {
  struct Case {
    int64_t images;
    int32_t side, patch, width;
  };
  for (const Case& c : {Case{1, 14, 14, 8}, Case{2, 42, 14, 40}, Case{3, 12, 4, 33}, Case{1, 35, 5, 72}}) {
    const int64_t grid = c.side / c.patch;
    const int64_t patches = grid * grid;
    const int64_t in = 3 * c.patch * c.patch;
    Random random(static_cast<uint32_t>(c.side));
    Stored weight;
    weight.add(DType::kF16, c.width, in, random);
    const std::vector<float> pixels = random.normals(c.images * 3 * c.side * c.side);
    const std::vector<float> class_row = random.normals(c.width);
    const std::vector<float> positions = random.normals((1 + patches) * c.width);
    std::vector<double> exact;
    std::vector<float> plain;
    for (int64_t image = 0; image < c.images; ++image) {
      for (int64_t i = 0; i < c.width; ++i) {
        exact.push_back(static_cast<double>(class_row[i]) + positions[i]);
        plain.push_back(class_row[i] + positions[i]);
      }
      for (int64_t p = 0; p < patches; ++p) {
        for (int64_t o = 0; o < c.width; ++o) {
          double sum = 0;
          float plain_sum = 0;
          int64_t k = 0;
          for (int64_t channel = 0; channel < 3; ++channel) {
            for (int64_t y = 0; y < c.patch; ++y) {
              for (int64_t x = 0; x < c.patch; ++x, ++k) {
                const int64_t line = (image * 3 + channel) * c.side + p / grid * c.patch + y;
                const float pixel = pixels[line * c.side + p % grid * c.patch + x];
                sum += static_cast<double>(pixel) * weight.values[o * in + k];
                plain_sum += pixel * weight.values[o * in + k];
              }
            }
          }
          exact.push_back(sum + positions[(1 + p) * c.width + o]);
          plain.push_back(plain_sum + positions[(1 + p) * c.width + o]);
        }
      }
    }
    for_each_cpu(2, [&](Cpu& cpu) {
      Weight* imported = weight.import(cpu);
      Fenced<float> y(static_cast<int64_t>(exact.size()));
      PatchEmbedParams params{.pixels = pixels.data(), .weight = imported, .class_row = class_row.data(),
                              .position_rows = positions.data(), .y = y.data(), .images = c.images, .side = c.side,
                              .patch = c.patch, .width = c.width};
      CHECK_OK(cpu, cpu.api.patch_embed(cpu.device, &params));
      CHECK(y.intact());
      check_close(y.take(), exact, plain, std::string(cpu.info.detail) + " side " + std::to_string(c.side));
      Fenced<float> last((1 + patches) * c.width);
      params.pixels = pixels.data() + (c.images - 1) * 3 * c.side * c.side;
      params.y = last.data();
      params.images = 1;
      CHECK_OK(cpu, cpu.api.patch_embed(cpu.device, &params));
      CHECK(same_bits(last.take(), slice(y.take(), (c.images - 1) * last.size(), last.size())));
      params.patch = c.patch + 1;
      CHECK_REFUSED(cpu, cpu.api.patch_embed(cpu.device, &params), Code::ERR_INVALID_ARG, "patch_embed");
      cpu.api.weight_release(cpu.device, imported);
    });
  }
}
