// embed, norm and gather of the CPU backend.
#include "test/native/cpu_fixture.h"

using namespace himap;
using namespace himap::test;

TEST("embed: rows of a table in two parts of different types, and rows of features") {
  for (int32_t width : {8, 40, 588}) {
    Random random(2);
    const std::vector<float> first = random.normals(5 * width);
    const std::vector<char> second = encode(DType::kBF16, random.normals(4 * width));
    const std::vector<float> second_meant = decode_all(DType::kBF16, second);
    const std::vector<float> features = random.normals(3 * width);
    const std::vector<int32_t> source = {0, 8, -1, 4, 5, -3, -2, 3};
    const WeightPart parts[2] = {{first.data(), DType::kF32, 5, width}, {second.data(), DType::kBF16, 4, width}};
    for_each_cpu(2, [&](Cpu& cpu) {
      Weight* table = nullptr;
      CHECK_OK(cpu, cpu.api.weight_import(cpu.device, parts, 2, WeightLayout::kStacked, &table));
      Fenced<float> y(static_cast<int64_t>(source.size()) * width);
      EmbedParams params{.source = source.data(), .table = table, .maybe_features = features.data(), .y = y.data(),
                         .rows = static_cast<int64_t>(source.size())};
      CHECK_OK(cpu, cpu.api.embed(cpu.device, &params));
      CHECK(y.intact());
      for (size_t r = 0; r < source.size(); ++r) {
        const float* expected = source[r] < 0   ? features.data() + (-1 - source[r]) * width
                                : source[r] < 5 ? first.data() + source[r] * width
                                                : second_meant.data() + (source[r] - 5) * width;
        CHECK_EQ(std::memcmp(y.data() + r * width, expected, width * sizeof(float)), 0);
      }
      params.maybe_features = nullptr;
      CHECK_REFUSED(cpu, cpu.api.embed(cpu.device, &params), Code::ERR_INVALID_ARG, "embed");
      const int32_t beyond = 9;
      params.source = &beyond;
      params.rows = 1;
      CHECK_REFUSED(cpu, cpu.api.embed(cpu.device, &params), Code::ERR_INVALID_ARG, "embed");
      cpu.api.weight_release(cpu.device, table);
    });
  }
}

namespace {

template <class Real>
std::vector<Real> normalise(const std::vector<float>& x, const std::vector<float>& weight, const std::vector<float>& bias,
                            int64_t width, float eps) {
  std::vector<Real> y(x.size());
  for (size_t row = 0; row < x.size(); row += width) {
    Real mean = 0;
    if (!bias.empty()) {
      for (int64_t i = 0; i < width; ++i) mean += static_cast<Real>(x[row + i]);
      mean /= static_cast<Real>(width);
    }
    Real square = 0;
    for (int64_t i = 0; i < width; ++i) square += (x[row + i] - mean) * (x[row + i] - mean);
    const Real factor = 1 / std::sqrt(square / static_cast<Real>(width) + static_cast<Real>(eps));
    for (int64_t i = 0; i < width; ++i) {
      const Real value = (x[row + i] - mean) * factor * static_cast<Real>(weight[i]);
      y[row + i] = bias.empty() ? value : value + static_cast<Real>(bias[i]);
    }
  }
  return y;
}

}  // namespace

TEST("norm: both kinds, in place too, and a row's bits alone and on any number of threads") {
  for (int32_t width : {1, 8, 40, 588, 1000}) {
    for (bool layer : {false, true}) {
      Random random(static_cast<uint32_t>(width));
      const int64_t rows = 65;
      std::vector<float> x = random.normals(rows * width);
      for (float& value : x) value += 3;
      const std::vector<float> weight = random.normals(width);
      const std::vector<float> bias = layer ? random.normals(width) : std::vector<float>();
      const std::vector<double> exact = normalise<double>(x, weight, bias, width, 1e-5f);
      const std::vector<float> plain = normalise<float>(x, weight, bias, width, 1e-5f);
      for (const char* set : sets()) {
        std::vector<float> all;
        for (int32_t threads : {1, 2, 3}) {
          Cpu cpu(set, threads);
          const auto run = [&](int64_t first, int64_t n, bool in_place) {
            Fenced<float> y(n * width);
            if (in_place) std::copy(x.begin() + first * width, x.begin() + (first + n) * width, y.data());
            const NormParams params{.x = in_place ? y.data() : x.data() + first * width, .weight = weight.data(),
                                    .maybe_bias = layer ? bias.data() : nullptr, .y = y.data(), .rows = n, .width = width,
                                    .eps = 1e-5f};
            CHECK_OK(cpu, cpu.api.norm(cpu.device, &params));
            CHECK(y.intact());
            return y.take();
          };
          const std::vector<float> y = run(0, rows, false);
          if (all.empty()) all = y;
          CHECK(same_bits(all, y));
          CHECK(same_bits(all, run(0, rows, true)));
          CHECK(same_bits(run(64, 1, false), slice(all, 64 * width, width)));
        }
        check_close(all, exact, plain, std::string(set) + " width " + std::to_string(width) + (layer ? " layer" : " rms"));
      }
    }
  }
}

TEST("gather: several arrays at once, any row size") {
  Random random(4);
  const std::vector<int32_t> index = {5, 0, 0, 3, 7, 1};
  std::vector<char> wide(8 * 588);
  for (char& value : wide) value = static_cast<char>(random.below(256));
  std::vector<uint8_t> narrow = {10, 11, 12, 13, 14, 15, 16, 17};
  for_each_cpu(3, [&](Cpu& cpu) {
    Fenced<char> a(6 * 588);
    Fenced<uint8_t> b(6);
    GatherParams params{.index = index.data(), .rows = 6, .n = 2};
    params.arrays[0] = {wide.data(), a.data(), 588};
    params.arrays[1] = {narrow.data(), b.data(), 1};
    CHECK_OK(cpu, cpu.api.gather(cpu.device, &params));
    CHECK(a.intact() && b.intact());
    for (size_t r = 0; r < index.size(); ++r) {
      CHECK_EQ(std::memcmp(a.data() + r * 588, wide.data() + index[r] * 588, 588), 0);
      CHECK_EQ(b[static_cast<int64_t>(r)], narrow[index[r]]);
    }
    params.arrays[1].row_bytes = 0;
    CHECK_REFUSED(cpu, cpu.api.gather(cpu.device, &params), Code::ERR_INVALID_ARG, "gather");
    params.n = kMaxGathered + 1;
    CHECK_REFUSED(cpu, cpu.api.gather(cpu.device, &params), Code::ERR_INVALID_ARG, "gather");
  });
}
