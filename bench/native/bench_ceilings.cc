// What the machine can do at most, for the share that a kernel reaches: himap_bench_ceilings portable|avx2|avx512 [threads].
// Prints one line of JSON: fp32 multiply-adds per second from registers, as GFLOP/s (two operations each), and bytes read per
// second from memory, as GB/s, all threads together; of several tries the best, since what else the machine does only subtracts.
//
// And how much of it is ours just now: himap_bench_ceilings additions [threads] prints the seconds that kAdditions additions of
// integers take, as many as a core can start, on every thread at once. A guest of the host on a core's other hardware thread
// takes instructions from them, and shows in no count of this machine's.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr int kTries = 7;
constexpr int64_t kAdditions = 1'200'000'000;  // of each thread: about a tenth of a second
/** Registers that sum at once: a multiply-add takes four cycles and two may begin in each. */
constexpr int kSums = 12;
/** Far beyond any cache. */
constexpr size_t kReadBytes = size_t{2} << 30;

/** One instruction set: `multiply_add` does `rounds` times kSums vector operations, `read` looks at every byte once. */
struct Path {
  const char* name;
  int lanes;
  float (*multiply_add)(int64_t rounds);
  uint64_t (*read)(const char* from, size_t bytes);
};

// Vectors of the compiler's baseline; it has no fused operation, so that a product and a sum stand for one.
typedef float Float4 __attribute__((vector_size(16)));
typedef uint64_t Word2 __attribute__((vector_size(16)));

float multiply_add_portable(int64_t rounds) {
  Float4 sums[kSums];
  for (int i = 0; i < kSums; ++i) sums[i] = Float4{1, 2, 3, 4} + static_cast<float>(i);
  const Float4 factor = Float4{} + 0.999f;
  const Float4 term = Float4{} + 0.001f;
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kSums; ++i) sums[i] = sums[i] * factor + term;
  }
  float total = 0;
  for (const Float4& sum : sums) total += sum[0] + sum[3];
  return total;
}

uint64_t read_portable(const char* from, size_t bytes) {
  Word2 sums[4] = {};
  for (size_t at = 0; at < bytes; at += 64) {
    for (int i = 0; i < 4; ++i) sums[i] ^= *reinterpret_cast<const Word2*>(from + at + 16 * i);
  }
  const Word2 all = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
  return all[0] ^ all[1];
}

#if defined(__x86_64__)

__attribute__((target("avx2,fma"))) float multiply_add_avx2(int64_t rounds) {
  __m256 sums[kSums];
  for (int i = 0; i < kSums; ++i) sums[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 factor = _mm256_set1_ps(0.999f);
  const __m256 term = _mm256_set1_ps(0.001f);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kSums; ++i) sums[i] = _mm256_fmadd_ps(sums[i], factor, term);
  }
  float total = 0;
  for (const __m256& sum : sums) total += _mm256_cvtss_f32(sum);
  return total;
}

__attribute__((target("avx2"))) uint64_t read_avx2(const char* from, size_t bytes) {
  __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
  for (size_t at = 0; at < bytes; at += 128) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) sums[i] = _mm256_xor_si256(sums[i], _mm256_load_si256(reinterpret_cast<const __m256i*>(from + at + 32 * i)));
  }
  const __m256i all = _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
  return static_cast<uint64_t>(_mm256_extract_epi64(all, 0) ^ _mm256_extract_epi64(all, 3));
}

__attribute__((target("avx512f"))) float multiply_add_avx512(int64_t rounds) {
  __m512 sums[kSums];
  for (int i = 0; i < kSums; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 factor = _mm512_set1_ps(0.999f);
  const __m512 term = _mm512_set1_ps(0.001f);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kSums; ++i) sums[i] = _mm512_fmadd_ps(sums[i], factor, term);
  }
  float total = 0;
  for (const __m512& sum : sums) total += _mm512_cvtss_f32(sum);
  return total;
}

__attribute__((target("avx512f"))) uint64_t read_avx512(const char* from, size_t bytes) {
  __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
  for (size_t at = 0; at < bytes; at += 256) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) sums[i] = _mm512_xor_si512(sums[i], _mm512_load_si512(from + at + 64 * i));
  }
  const __m512i all = _mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]), _mm512_xor_si512(sums[2], sums[3]));
  alignas(64) uint64_t words[8];
  _mm512_store_si512(words, all);
  return words[0] ^ words[3] ^ words[7];
}

#endif

const Path kPaths[] = {
    {"portable", 4, multiply_add_portable, read_portable},
#if defined(__x86_64__)
    {"avx2", 8, multiply_add_avx2, read_avx2},
    {"avx512", 16, multiply_add_avx512, read_avx512},
#endif
};

/** Six chains, so that none waits for itself. */
uint64_t add(int64_t additions) {
  uint64_t sums[6] = {};
  for (int64_t i = 0; i < additions; i += 6) {
#pragma GCC unroll 6
    for (uint64_t& sum : sums) {
      ++sum;
      __asm__ volatile("" : "+r"(sum));  // or the compiler would add all at once
    }
  }
  return sums[0] + sums[5];
}

bool runs_here([[maybe_unused]] const Path& path) {
#if defined(__x86_64__)
  if (std::strcmp(path.name, "avx2") == 0) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (std::strcmp(path.name, "avx512") == 0) return __builtin_cpu_supports("avx512f");
#endif
  return true;
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/** Seconds from when all threads stand ready until the last has done its part. */
double seconds_of(int threads, const std::function<void(int)>& part) {
  std::atomic<int> ready{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> workers;
  for (int thread = 0; thread < threads; ++thread) {
    workers.emplace_back([&, thread] {
      ready.fetch_add(1);
      while (!go.load()) std::this_thread::yield();
      part(thread);
    });
  }
  while (ready.load() < threads) std::this_thread::yield();
  const double start = now();
  go.store(true);
  for (std::thread& worker : workers) worker.join();
  return now() - start;
}

double shortest(int threads, const std::function<void(int)>& part) {
  double best = 1e9;
  for (int i = 0; i < kTries; ++i) best = std::min(best, seconds_of(threads, part));
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 2 ? std::atoi(argv[2]) : 1;
  const std::string wanted = argc > 1 ? argv[1] : "";
  if (wanted == "additions" && threads > 0) {
    std::vector<uint64_t> sums(threads);
    std::printf("{\"seconds\":%.6f}\n", seconds_of(threads, [&](int thread) { sums[thread] = add(kAdditions); }));
    return 0;
  }
  const Path* path = std::find_if(std::begin(kPaths), std::end(kPaths), [&](const Path& one) { return wanted == one.name; });
  if (path == std::end(kPaths) || !runs_here(*path) || threads < 1) {
    std::fprintf(stderr, "expected an instruction set that runs here or \"additions\", and threads, but received \"%s\" %d\n", wanted.c_str(), threads);
    return 1;
  }
  // Results go here, so that nothing is optimised away.
  std::vector<double> sink(threads);

  int64_t rounds = 1 << 20;
  const auto multiply = [&](int thread) { sink[thread] += path->multiply_add(rounds); };
  while (seconds_of(1, multiply) < 0.1) rounds *= 2;
  const double gflops = 2.0 * path->lanes * kSums * static_cast<double>(rounds) * threads / shortest(threads, multiply) * 1e-9;

  void* memory = mmap(nullptr, kReadBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::fprintf(stderr, "expected %zu bytes of memory but there are fewer\n", kReadBytes);
    return 1;
  }
  madvise(memory, kReadBytes, MADV_HUGEPAGE);
  std::memset(memory, 1, kReadBytes);
  const size_t part = kReadBytes / threads / 4096 * 4096;
  const double gbs = static_cast<double>(part) * threads * 1e-9 / shortest(threads, [&](int thread) {
    sink[thread] += static_cast<double>(path->read(static_cast<const char*>(memory) + part * thread, part));
  });

  double check = 0;
  for (const double value : sink) check += value;
  std::printf("{\"simd\":\"%s\",\"threads\":%d,\"fmaGflops\":%.1f,\"readGBs\":%.2f,\"check\":%.3g}\n", path->name, threads, gflops, gbs, check);
}
