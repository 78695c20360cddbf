// The bench's floors against figures computed apart from it, for the ceilings of an H200: 4.3e12 B/s and 790e12 FLOP/s.
#include <cmath>
#include <string>

#include "bench/cuda/floors.h"
#include "bench/cuda/models.h"
#include "test/native/check.h"

namespace himap::bench {
namespace {

constexpr Ceilings kH200{4.3e12, 790e12};

/** Equal to half a unit of the last digit that the expected figure was written with. */
void near(double got, double expected, double unit, const char* what, int line) {
  if (std::abs(got - expected) <= 0.501 * unit) return;
  test::report(__FILE__, line, std::string(what) + ": expected " + std::to_string(expected) + ", got " + std::to_string(got));
}
#define CHECK_NEAR(got, expected, unit) near(got, expected, unit, #got, __LINE__)

double milliseconds(const Floor& floor) { return 1e3 * floor.seconds; }

TEST("the tower and the projector") {
  const ModelConfig small = llava_7b(), large = llava_13b();
  CHECK_NEAR(milliseconds(tower_floor(small, 1, kH200)), 0.46, 0.01);
  CHECK_NEAR(milliseconds(tower_floor(small, 8, kH200)), 3.71, 0.01);
  CHECK_NEAR(milliseconds(tower_floor(small, 32, kH200)), 14.8, 0.1);
  CHECK_NEAR(1e-12 * tower_floor(small, 8, kH200).flops, 2.93, 0.01);
  CHECK_NEAR(milliseconds(projector_floor(small, 8, kH200)), 0.24, 0.01);
  CHECK_NEAR(milliseconds(projector_floor(large, 32, kH200)), 1.47, 0.01);
}

TEST("prefill, dense and pruned") {
  struct Case {
    bool large;
    int64_t batch, text;
    double dense_tflop, dense_ms, pruned_tflop, pruned_ms, tflop_unit, dense_unit, pruned_unit;
  };
  const Case cases[] = {{false, 1, 60, 8.34, 10.64, 2.51, 4.02, 0.01, 0.01, 0.01}, {false, 1, 135, 9.34, 11.89, 3.49, 4.51, 0.01, 0.01, 0.01},
                        {false, 8, 100, 71.0, 90.0, 24.2, 31.0, 0.1, 0.1, 0.1},    {false, 32, 100, 284, 360, 96.9, 124, 1, 1, 1},
                        {true, 1, 60, 16.3, 20.75, 4.59, 7.46, 0.1, 0.01, 0.01},   {true, 1, 135, 18.25, 23.19, 6.51, 8.37, 0.01, 0.01, 0.01},
                        {true, 8, 100, 139, 176, 44.9, 57.3, 1, 1, 0.1},           {true, 32, 100, 555, 703, 180, 229, 1, 1, 1}};
  for (const Case& one : cases) {
    const ModelConfig model = one.large ? llava_13b() : llava_7b();
    const Floor dense = prefill_floor(model, one.batch, one.text, {}, kH200);
    const Floor pruned = prefill_floor(model, one.batch, one.text, himap_cuts(model), kH200);
    CHECK_NEAR(1e-12 * dense.flops, one.dense_tflop, one.tflop_unit);
    CHECK_NEAR(milliseconds(dense), one.dense_ms, one.dense_unit);
    CHECK_NEAR(1e-12 * pruned.flops, one.pruned_tflop, one.tflop_unit);
    CHECK_NEAR(milliseconds(pruned), one.pruned_ms, one.pruned_unit);
  }
}

TEST("a step of decode, 64 tokens behind a prompt of 676") {
  struct Case {
    bool large;
    int64_t batch;
    double dense_ms, pruned_ms;
  };
  const Case cases[] = {{false, 1, 3.16, 3.11}, {false, 8, 3.80, 3.38}, {false, 32, 5.99, 4.31}, {false, 128, 14.75, 8.01},
                        {true, 1, 6.12, 6.04},  {true, 8, 7.12, 6.44},  {true, 32, 10.54, 7.82}, {true, 128, 24.22, 13.34}};
  for (const Case& one : cases) {
    const ModelConfig model = one.large ? llava_13b() : llava_7b();
    CHECK_NEAR(milliseconds(decode_floor(model, one.batch, 100, {}, 64, kH200)), one.dense_ms, 0.01);
    CHECK_NEAR(milliseconds(decode_floor(model, one.batch, 100, himap_cuts(model), 64, kH200)), one.pruned_ms, 0.01);
  }
}

TEST("a step of decode reads weights and KV cache once") {
  // 32 layers of 202,375,168 weights and a head of 131,334,144; of each token 16,384 bytes in each layer.
  const double weights = 2 * (32.0 * 202'375'168 + 131'334'144), token = 32 * 16'384.0;
  const ModelConfig model = llava_7b();
  for (const int64_t batch : {1, 128}) {
    const Floor floor = decode_floor(model, batch, 100, {}, 64, kH200);
    CHECK_NEAR(floor.stored_bytes, weights + static_cast<double>(batch) * 740 * token, 1.0);
    CHECK(floor.bytes > floor.stored_bytes);  // inputs and outputs of the products
  }
}

TEST("single products, microseconds") {
  struct Row {
    int64_t rows;
    double qkv, o, gate_up, down, head;
  };
  const Row rows[] = {{1, 23.4, 7.8, 42.0, 21.0, 61.1},       {32, 23.7, 7.9, 42.3, 21.2, 61.6},   {128, 24.4, 8.3, 43.5, 21.9, 63.2},
                      {172, 24.7, 8.5, 44.0, 22.2, 64.0},     {207, 26.4, 8.8, 47.3, 23.6, 68.8},  {424, 54.0, 18.0, 96.8, 48.4, 141.0},
                      {676, 86.1, 28.7, 154.3, 77.2, 224.8},  {5408, 689.1, 229.7, 1234.6, 617.3, 1798.1}};
  const ModelConfig model = llava_7b();
  const std::vector<Matrix> matrices = decoder_matrices(model);
  for (const Row& row : rows) {
    const double expected[] = {row.qkv, row.o, row.gate_up, row.down};
    for (size_t m = 0; m < matrices.size(); ++m) {
      CHECK_NEAR(1e6 * floor_seconds(linear_work(row.rows, matrices[m].out, matrices[m].in), kH200), expected[m], 0.1);
    }
    CHECK_NEAR(1e6 * floor_seconds(linear_work(row.rows, model.vocabulary, model.hidden), kH200), row.head, 0.1);
  }
}

}  // namespace
}  // namespace himap::bench

TEST_MAIN()
