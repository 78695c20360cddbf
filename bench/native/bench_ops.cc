// Times the CPU backend's operations through its table: himap_bench_ops [threads] [substring of a case's name].
// Each line: instruction set, case, shortest time (of the processor on one thread, of the clock on more), GFLOP/s, GB/s
// (weights or KV read once), and a hash of the result, which must not change with the number of threads.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "native/backend/ops.h"

extern "C" const himap::BackendApi* himap_backend();

namespace {

using namespace himap;

struct Bench {
  const BackendApi* api = himap_backend();
  Device* device = nullptr;
  std::string set;
  std::string wanted;
  int32_t threads = 1;
};

uint32_t random_bits(uint32_t& state) {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state;
}

std::vector<float> floats(int64_t n, float size) {
  uint32_t state = 2463534242u;
  std::vector<float> values(n);
  for (float& value : values) value = (static_cast<float>(random_bits(state) >> 8) / 8388608.0f - 1.0f) * size;
  return values;
}

/** Elements of a type, small: bf16 is the upper half of float32, and f16 takes bits of numbers near one half. */
std::vector<char> elements(DType type, int64_t n) {
  uint32_t state = 88675123u;
  std::vector<char> bytes(dtype_bytes(type, n));
  if (type == DType::kF32) {
    const std::vector<float> values = floats(n, 0.05f);
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = random_bits(state);
    const auto half = static_cast<uint16_t>((bits & 0x8000) | (type == DType::kF16 ? 0x2800 : 0x3d00) | (bits & 0xff));
    std::memcpy(bytes.data() + 2 * i, &half, 2);
  }
  return bytes;
}

uint64_t hash(const std::vector<float>& values) {
  uint64_t h = 14695981039346656037u;
  for (float value : values) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    h = (h ^ bits) * 1099511628211u;
  }
  return h;
}

void measure(Bench& bench, const std::string& name, double flops, double bytes, const std::vector<float>& result,
             const std::function<int32_t()>& run) {
  if (name.find(bench.wanted) == std::string::npos) return;
  const clockid_t clock = bench.threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
  const auto now = [clock] {
    timespec time;
    clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  std::vector<double> seconds;
  double total = 0;
  while (seconds.size() < 5 || (total < 0.5 && seconds.size() < 200)) {
    const double start = now();
    if (run() != 0) {
      std::printf("%-8s %-34s failed: %s\n", bench.set.c_str(), name.c_str(), bench.api->last_error(bench.device));
      return;
    }
    seconds.push_back(now() - start);
    total += seconds.back();
  }
  // The shortest: what else the machine does only ever adds.
  const double shortest = *std::min_element(seconds.begin(), seconds.end());
  std::printf("%-8s %-34s %9.3f ms %8.1f GFLOP/s %7.1f GB/s  %016llx\n", bench.set.c_str(), name.c_str(), shortest * 1e3,
              flops / shortest * 1e-9, bytes / shortest * 1e-9, static_cast<unsigned long long>(hash(result)));
  std::fflush(stdout);
}

const char* name_of(DType type) { return type == DType::kF32 ? "f32" : type == DType::kF16 ? "f16" : "bf16"; }

void bench_linear(Bench& bench, DType type, Phase phase, int64_t rows, int64_t in, int64_t out, Epilogue epilogue) {
  const std::vector<char> data = elements(type, in * out);
  const bool pair = epilogue == Epilogue::kSwiGlu;
  const WeightPart parts[2] = {{data.data(), type, pair ? out / 2 : out, in},
                               {data.data() + dtype_bytes(type, in * out / 2), type, out / 2, in}};
  Weight* weight = nullptr;
  bench.api->weight_import(bench.device, parts, pair ? 2 : 1, pair ? WeightLayout::kGateUp : WeightLayout::kStacked, &weight);
  const std::vector<float> x = floats(rows * in, 1);
  std::vector<float> y(rows * (pair ? out / 2 : out));
  void* device_x = nullptr;  // aligned as the engine's buffers are
  bench.api->allocate(bench.device, x.size() * sizeof(float), &device_x);
  bench.api->upload(bench.device, device_x, x.data(), x.size() * sizeof(float));
  const LinearParams params{.x = device_x, .weight = weight, .y = y.data(), .rows = rows, .phase = phase, .epilogue = epilogue};
  const std::string name = std::string(phase == Phase::kPrefill ? "prefill " : "decode ") + name_of(type) + " " +
                           std::to_string(rows) + "x" + std::to_string(in) + "x" + std::to_string(out) +
                           (pair                                ? " swiglu"
                            : epilogue == Epilogue::kQuickGelu ? " quickgelu"
                            : epilogue == Epilogue::kGelu      ? " gelu"
                                                               : "");
  measure(bench, name, 2.0 * rows * in * out, static_cast<double>(dtype_bytes(type, in * out)), y,
          [&] { return bench.api->linear(bench.device, &params); });
  bench.api->weight_release(bench.device, weight);
  bench.api->release(bench.device, device_x);
}

void bench_attention(Bench& bench, int32_t rows, int32_t heads, int32_t kv_heads, int32_t head_dim, bool causal, bool sums) {
  const std::vector<float> qkv = floats(int64_t{rows} * (heads + 2 * kv_heads) * head_dim, 1);
  std::vector<float> y(int64_t{rows} * heads * head_dim);
  const int32_t cu_rows[2] = {0, rows};
  const std::vector<uint8_t> votes(rows, kVotesInstruction);
  const int32_t columns[2] = {0, rows};
  const int64_t offset = 0;
  std::vector<float> out(int64_t{heads} * ((rows + kQueryTile - 1) / kQueryTile) * rows);
  const ColumnSums column_sums{.votes = votes.data(), .group_masks = {kVotesAll}, .groups = 1, .columns = columns,
                               .offsets = &offset, .sums = out.data()};
  const AttentionPrefillParams params{.qkv = qkv.data(), .y = y.data(), .cu_rows = cu_rows, .sequences = 1, .max_rows = rows,
                                      .heads = heads, .kv_heads = kv_heads, .head_dim = head_dim, .scale = 0.125f,
                                      .causal = causal, .maybe_column_sums = sums ? &column_sums : nullptr};
  const double pairs = causal ? 0.5 * rows * (rows + 1) : 1.0 * rows * rows;
  measure(bench, "attention " + std::to_string(rows) + " h" + std::to_string(heads) + "/" + std::to_string(kv_heads) + " d" +
              std::to_string(head_dim) + (causal ? " causal" : " full") + (sums ? " sums" : ""),
          (sums ? 6.0 : 4.0) * pairs * heads * head_dim, 0, y,
          [&] { return bench.api->attention_prefill(bench.device, &params); });
}

void bench_decode_attention(Bench& bench, DType type, int32_t rows, int32_t length, int32_t heads, int32_t kv_heads,
                            int32_t head_dim) {
  const KvLayout layout{type, kv_heads, head_dim};
  const int32_t blocks = (length + kPageTokens - 1) / kPageTokens;
  std::vector<char> pool = elements(type, layout.page_elements() * blocks * rows);
  std::vector<int32_t> pages(rows * blocks);
  for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>(i);
  const std::vector<int32_t> lengths(rows, length);
  std::vector<float> qkv = floats(int64_t{rows} * (heads + 2 * kv_heads) * head_dim, 1);
  std::vector<float> y(int64_t{rows} * heads * head_dim);
  // Nothing is turned, or every run would have another query.
  const std::vector<float> cos(head_dim / 2, 1), sin(head_dim / 2, 0);
  const std::vector<int32_t> positions(rows, 0);
  const AttentionDecodeParams params{.qkv = qkv.data(), .y = y.data(), .pool = pool.data(), .layout = layout,
                                     .pages = pages.data(), .lengths = lengths.data(), .cos = cos.data(), .sin = sin.data(),
                                     .positions = positions.data(), .rows = rows, .blocks = blocks, .heads = heads, .scale = 0.1f};
  const std::string name = std::string("decode attention ") + name_of(type) + " " + std::to_string(rows) + "x" +
                           std::to_string(length) + " h" + std::to_string(heads) + "/" + std::to_string(kv_heads) + " d" +
                           std::to_string(head_dim);
  const double kv_bytes = 2.0 * rows * length * static_cast<double>(dtype_bytes(type, int64_t{kv_heads} * head_dim));
  measure(bench, name, 4.0 * rows * length * heads * head_dim, kv_bytes, y,
          [&] { return bench.api->attention_decode(bench.device, &params); });
}

void bench_norm(Bench& bench, int64_t rows, int64_t width) {
  const std::vector<float> x = floats(rows * width, 1);
  const std::vector<float> weight = floats(width, 1);
  std::vector<float> y(rows * width);
  const NormParams params{.x = x.data(), .weight = weight.data(), .y = y.data(), .rows = rows, .width = width, .eps = 1e-5f};
  measure(bench, "rmsnorm " + std::to_string(rows) + "x" + std::to_string(width), 4.0 * rows * width, 12.0 * rows * width, y,
          [&] { return bench.api->norm(bench.device, &params); });
}

void bench_candidates(Bench& bench, int64_t rows, int32_t vocabulary) {
  std::vector<float> x = floats(rows * vocabulary, 10);
  const std::vector<int32_t> start(rows + 1, 0);
  const std::vector<const uint32_t*> masks(rows, nullptr);
  std::vector<int32_t> ids(rows * kCandidates);
  std::vector<float> best(rows * kCandidates);
  std::vector<float> log_sum(rows);
  const CandidatesParams params{.logits = x.data(), .rows = rows, .vocabulary = vocabulary, .adjust_start = start.data(),
                                .masks = masks.data(), .ids = ids.data(), .best = best.data(), .log_sum_exp = log_sum.data()};
  measure(bench, "candidates " + std::to_string(rows) + "x" + std::to_string(vocabulary), 0, 4.0 * rows * vocabulary, best,
          [&] { return bench.api->candidates(bench.device, &params); });
}

void bench_all(Bench& bench) {
  for (DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
    bench_linear(bench, type, Phase::kPrefill, 640, 2048, 2048, Epilogue::kNone);
    bench_linear(bench, type, Phase::kPrefill, 35, 2048, 2048, Epilogue::kNone);
    bench_linear(bench, type, Phase::kDecode, 1, 4096, 4096, Epilogue::kNone);
    bench_linear(bench, type, Phase::kDecode, 4, 4096, 4096, Epilogue::kNone);
    bench_linear(bench, type, Phase::kDecode, 8, 4096, 4096, Epilogue::kNone);
    bench_linear(bench, type, Phase::kDecode, 16, 4096, 4096, Epilogue::kNone);
  }
  bench_linear(bench, DType::kF16, Phase::kPrefill, 640, 4096, 22016, Epilogue::kSwiGlu);
  for (int64_t rows : {1, 8}) bench_linear(bench, DType::kF16, Phase::kDecode, rows, 4096, 22016, Epilogue::kSwiGlu);
  bench_linear(bench, DType::kF32, Phase::kPrefill, 577, 1024, 4096, Epilogue::kQuickGelu);
  bench_linear(bench, DType::kF32, Phase::kPrefill, 576, 1024, 4096, Epilogue::kGelu);
  bench_linear(bench, DType::kBF16, Phase::kPrefill, 200, 256, 768, Epilogue::kNone);
  bench_attention(bench, 577, 16, 16, 64, false, false);
  bench_attention(bench, 640, 32, 32, 128, true, false);
  bench_attention(bench, 640, 32, 32, 128, true, true);
  for (DType type : {DType::kF32, DType::kF16, DType::kBF16}) bench_decode_attention(bench, type, 1, 640, 32, 32, 128);
  bench_decode_attention(bench, DType::kF16, 4, 2000, 32, 8, 128);
  for (DType type : {DType::kF32, DType::kF16}) bench_decode_attention(bench, type, 16, 640, 16, 16, 128);  // beyond the caches
  bench_norm(bench, 640, 4096);
  bench_norm(bench, 1, 4096);
  bench_candidates(bench, 1, 32064);
}

}  // namespace

int main(int argc, char** argv) {
  const DeviceOptions options{.threads = argc > 1 ? std::atoi(argv[1]) : 1};
  for (const char* set : {"portable", "avx2", "avx512"}) {
    setenv("HIMAP_CPU", set, 1);
    Bench bench;
    bench.wanted = argc > 2 ? argv[2] : "";
    char reason[256] = "";
    DeviceInfo info{};
    if (bench.api->open(&options, &bench.device, &info, reason, sizeof(reason)) != 0) {
      std::printf("%-8s skipped: %s\n", set, reason);
      continue;
    }
    bench.set = info.detail;
    bench.threads = info.threads;
    bench_all(bench);
    bench.api->close(bench.device);
  }
}
