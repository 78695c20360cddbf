// rope_kv and attention_decode of the CPU backend: keys and values on their way into pages and back.
#include "kernels/kv_layout.h"
#include "test/native/cpu_fixture.h"

using namespace himap;
using namespace himap::test;

namespace {

/** A pool with shuffled pages, filled through rope_kv. */
struct Cache {
  KvLayout layout;
  int32_t blocks;
  std::vector<int32_t> pages;  // (sequences, blocks)
  Fenced<char> pool;

  Cache(DType type, const Heads& heads, int32_t sequences, int32_t blocks_each, Random& random)
      : layout{type, heads.kv_heads, heads.head_dim}, blocks(blocks_each), pages(static_cast<size_t>(sequences * blocks_each)),
        pool(layout.page_bytes() * sequences * blocks_each) {
    for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>(i);
    for (size_t i = pages.size(); i > 1; --i) std::swap(pages[i - 1], pages[random.below(static_cast<int32_t>(i))]);
  }

  double at(int32_t sequence, int32_t value, int32_t head, int32_t token, int32_t d) {
    const int32_t page = pages[sequence * blocks + token / kPageTokens];
    const int64_t offset = layout.offset(page, value, head, token % kPageTokens) + d;
    return decode(layout.type, pool.data() + dtype_bytes(layout.type, offset));
  }
};

struct Table {
  std::vector<float> cos, sin;  // (positions, half)
  Table(int32_t positions, int32_t half) {
    for (int32_t p = 0; p < positions; ++p) {
      for (int32_t i = 0; i < half; ++i) {
        const double angle = p * std::pow(10000.0, -static_cast<double>(i) / half);
        cos.push_back(static_cast<float>(std::cos(angle)));
        sin.push_back(static_cast<float>(std::sin(angle)));
      }
    }
  }
};

}  // namespace

TEST("rope_kv: the turn, and every key and value in its page") {
  for (DType type : kTypes) {
    for (const Heads& heads : {Heads{2, 2, 8}, Heads{4, 2, 40}, Heads{2, 1, 64}, Heads{3, 1, 72}}) {
      Random random(21);
      const int32_t half = heads.head_dim / 2;
      const Table table(200, half);
      const std::vector<int32_t> lengths = {1, 33, 70};
      std::vector<int32_t> positions, sequence, slot;
      for (int32_t s = 0; s < 3; ++s) {
        for (int32_t i = 0; i < lengths[s]; ++i) {
          sequence.push_back(s);
          slot.push_back(i);
          positions.push_back(i * 2 + s);  // positions are data
        }
      }
      const auto rows = static_cast<int64_t>(slot.size());
      const std::vector<float> original = random.normals(rows * heads.qkv_width());
      for_each_cpu(2, [&](Cpu& cpu) {
        Cache cache(type, heads, 3, 3, random);
        Fenced<float> qkv(rows * heads.qkv_width());
        std::copy(original.begin(), original.end(), qkv.data());
        RopeKvParams params{.qkv = qkv.data(), .cos = table.cos.data(), .sin = table.sin.data(), .positions = positions.data(),
                            .sequence = sequence.data(), .slot = slot.data(), .pages = cache.pages.data(),
                            .pool = cache.pool.data(), .layout = cache.layout, .rows = rows, .blocks = 3, .heads = heads.heads};
        CHECK_OK(cpu, cpu.api.rope_kv(cpu.device, &params));
        CHECK(qkv.intact());
        CHECK(cache.pool.intact());
        std::vector<double> exact;
        std::vector<float> plain;
        int wrong = 0;
        for (int64_t r = 0; r < rows; ++r) {
          for (int32_t h = 0; h < heads.heads + 2 * heads.kv_heads; ++h) {
            const float* from = original.data() + r * heads.qkv_width() + h * heads.head_dim;
            for (int32_t d = 0; d < heads.head_dim; ++d) {
              const int64_t angle = positions[r] * half + d % half;
              const float c = table.cos[angle], s = table.sin[angle];
              const float other = d < half ? -from[d + half] : from[d - half];
              const bool turned = h < heads.heads + heads.kv_heads;
              exact.push_back(turned ? static_cast<double>(from[d]) * c + static_cast<double>(other) * s : from[d]);
              plain.push_back(turned ? from[d] * c + other * s : from[d]);
              if (h < heads.heads) continue;
              const int32_t kv = h - heads.heads;
              const float now = qkv[r * heads.qkv_width() + h * heads.head_dim + d];
              const std::vector<char> stored = encode(type, {now});
              const double kept = cache.at(sequence[r], kv / heads.kv_heads, kv % heads.kv_heads, slot[r], d);
              if (kept != decode(type, stored.data())) ++wrong;
            }
          }
        }
        CHECK_EQ(wrong, 0);
        check_close(qkv.take(), exact, plain, std::string(cpu.info.detail) + " " + type_name(type));
        slot[0] = 96;
        CHECK_REFUSED(cpu, cpu.api.rope_kv(cpu.device, &params), Code::ERR_INVALID_ARG, "rope_kv");
        slot[0] = 0;
        params.layout.head_dim = 12;
        CHECK_REFUSED(cpu, cpu.api.rope_kv(cpu.device, &params), Code::ERR_INVALID_ARG, "rope_kv");
      });
    }
  }
}

TEST("attention_decode: values over shuffled pages, and a row's bits alone, in a batch and on any number of threads") {
  const std::vector<int32_t> lengths = {1, 31, 32, 33, 255, 256, 257, 600};
  const auto rows = static_cast<int32_t>(lengths.size());
  constexpr int32_t kBlocks = 19;
  for (DType type : kTypes) {
    for (const Heads& heads : {Heads{2, 2, 8}, Heads{4, 2, 40}, Heads{2, 1, 64}, Heads{3, 1, 72}, Heads{2, 2, 128}}) {
      Random random(31);
      Cache cache(type, heads, rows, kBlocks, random);
      // What no token was written to must not be read: NaN in every byte.
      std::fill(cache.pool.data(), cache.pool.data() + cache.pool.size(), static_cast<char>(0xff));
      for (int32_t s = 0; s < rows; ++s) {
        for (int32_t token = 0; token < lengths[s]; ++token) {
          const int32_t page = cache.pages[s * kBlocks + token / kPageTokens];
          for (int32_t value = 0; value < 2; ++value) {
            for (int32_t h = 0; h < heads.kv_heads; ++h) {
              const std::vector<char> bytes = encode(type, random.normals(heads.head_dim, 2));
              const int64_t offset = cache.layout.offset(page, value, h, token % kPageTokens);
              std::copy(bytes.begin(), bytes.end(), cache.pool.data() + dtype_bytes(type, offset));
            }
          }
        }
      }
      // The new row is the last token: its key and value are what lies there already, and nothing is turned.
      std::vector<float> qkv = random.normals(rows * heads.qkv_width(), 2);
      for (int32_t s = 0; s < rows; ++s) {
        float* to = qkv.data() + s * heads.qkv_width() + heads.y_width();
        for (int32_t value = 0; value < 2; ++value) {
          for (int32_t h = 0; h < heads.kv_heads; ++h) {
            for (int32_t d = 0; d < heads.head_dim; ++d) *to++ = static_cast<float>(cache.at(s, value, h, lengths[s] - 1, d));
          }
        }
      }
      const std::vector<float> cos(heads.head_dim / 2, 1.0f), sin(heads.head_dim / 2, 0.0f);
      const std::vector<int32_t> positions(rows, 0);
      const float scale = 1 / std::sqrt(static_cast<float>(heads.head_dim));
      std::vector<double> exact;
      std::vector<float> plain;
      const auto attend = [&](auto real, int32_t s, int32_t head) {
        using Real = decltype(real);
        const int32_t kv = head / (heads.heads / heads.kv_heads);
        std::vector<Real> weights(static_cast<size_t>(lengths[s]));
        Real high = -HUGE_VALF;
        for (int32_t t = 0; t < lengths[s]; ++t) {
          Real dot = 0;
          for (int32_t d = 0; d < heads.head_dim; ++d) {
            const float q = qkv[s * heads.qkv_width() + head * heads.head_dim + d];
            dot += static_cast<Real>(q) * static_cast<Real>(cache.at(s, 0, kv, t, d));
          }
          weights[t] = dot * static_cast<Real>(scale);
          high = std::max(high, weights[t]);
        }
        Real total = 0;
        for (Real& weight : weights) total += weight = std::exp(weight - high);
        std::vector<Real> y;
        for (int32_t d = 0; d < heads.head_dim; ++d) {
          Real sum = 0;
          for (int32_t t = 0; t < lengths[s]; ++t) sum += weights[t] * static_cast<Real>(cache.at(s, 1, kv, t, d));
          y.push_back(sum / total);
        }
        return y;
      };
      for (int32_t s = 0; s < rows; ++s) {
        for (int32_t head = 0; head < heads.heads; ++head) {
          for (double value : attend(double{}, s, head)) exact.push_back(value);
          for (float value : attend(float{}, s, head)) plain.push_back(value);
        }
      }
      for (const char* set : sets()) {
        std::vector<float> all;
        for (int32_t threads : {1, 2, 3}) {
          Cpu cpu(set, threads);
          const auto decode_rows = [&](int32_t first, int32_t n) {
            Fenced<float> y(n * heads.y_width());
            const AttentionDecodeParams params{.qkv = qkv.data() + first * heads.qkv_width(), .y = y.data(),
                                               .pool = cache.pool.data(), .layout = cache.layout,
                                               .pages = cache.pages.data() + first * kBlocks, .lengths = lengths.data() + first,
                                               .cos = cos.data(), .sin = sin.data(), .positions = positions.data(), .rows = n, .blocks = kBlocks, .heads = heads.heads, .scale = scale};
            CHECK_OK(cpu, cpu.api.attention_decode(cpu.device, &params));
            CHECK(y.intact());
            return y.take();
          };
          const std::vector<float> y = decode_rows(0, rows);
          if (all.empty()) all = y;
          CHECK(same_bits(all, y));
          if (threads > 1) continue;
          check_close(y, exact, plain, std::string(set) + " " + type_name(type) + " head_dim " + std::to_string(heads.head_dim));
          for (int32_t s = 0; s < rows; ++s) {
            CHECK(same_bits(decode_rows(s, 1), slice(all, s * heads.y_width(), heads.y_width())));
          }
        }
      }
    }
  }
}

TEST("decode_split: to ask for pages ahead changes no bit") {
  constexpr int32_t kSplitPages = kDecodeSplit / kPageTokens;
  for (DType type : kTypes) {
    for (int32_t head_dim : {8, 40, 64, 72, 128, 136}) {
      Random random(61);
      const KvLayout layout{type, 1, head_dim};
      const std::vector<char> pool = encode(type, random.normals(layout.page_elements() * kSplitPages));
      const std::vector<float> q = random.normals(head_dim);
      const void* keys[kSplitPages];
      const void* values[kSplitPages];
      for (int32_t page = 0; page < kSplitPages; ++page) {
        keys[page] = pool.data() + dtype_bytes(type, layout.offset(kSplitPages - 1 - page, 0, 0, 0));
        values[page] = pool.data() + dtype_bytes(type, layout.offset(kSplitPages - 1 - page, 1, 0, 0));
      }
      for (int32_t tokens : {1, 32, 33, kDecodeSplit}) {
        for (const char* set : sets()) {
          const auto attend = [&](const void* maybe_next) {
            const DecodeSplit split{.q = q.data(), .keys = keys, .values = values, .page_tokens = kPageTokens, .tokens = tokens,
                                    .head_dim = head_dim, .type = type, .scale = 0.1f, .maybe_next = maybe_next};
            Fenced<float> weights(kDecodeSplit), sum(head_dim);
            float high, total;
            kernels_of(set).decode_split(split, weights.data(), &high, &total, sum.data());
            CHECK(weights.intact() && sum.intact());
            std::vector<float> result = sum.take();
            result.push_back(high);
            result.push_back(total);
            return result;
          };
          CHECK(same_bits(attend(keys[0]), attend(nullptr)));
        }
      }
    }
  }
}

TEST("attention_decode: what would corrupt is refused") {
  Cpu cpu("portable");
  std::vector<float> memory(4096);
  const int32_t page = 0;
  int32_t length = 33;
  int32_t position = 0;
  AttentionDecodeParams params{.qkv = memory.data(), .y = memory.data(), .pool = memory.data(), .layout = {DType::kF32, 1, 8},
                               .pages = &page, .lengths = &length, .cos = memory.data(), .sin = memory.data(), .positions = &position,
                               .rows = 1, .blocks = 1, .heads = 1, .scale = 1};
  const auto refused = [&] {
    CHECK_REFUSED(cpu, cpu.api.attention_decode(cpu.device, &params), Code::ERR_INVALID_ARG, "attention_decode");
  };
  refused();
  length = -1;
  refused();
  length = 1;
  position = -1;
  refused();
  position = 0;
  params.layout.head_dim = 20;
  refused();
  params.layout.head_dim = 8;
  params.layout.kv_heads = 0;
  refused();
  params.layout.kv_heads = 1;
  params.pages = nullptr;
  refused();
}

TEST("attention_decode: the new row is turned and kept, as rope_kv would, and a row of length 0 stands for nobody") {
  const Heads heads{4, 2, 40};
  Random random(41);
  const Table table(10, heads.head_dim / 2);
  for (DType type : kTypes) {
    for_each_cpu(2, [&](Cpu& cpu) {
      Cache cache(type, heads, 2, 2, random);
      std::fill(cache.pool.data(), cache.pool.data() + cache.pool.size(), 0);
      std::vector<char> before(cache.pool.data(), cache.pool.data() + cache.pool.size());
      const std::vector<float> original = random.normals(2 * heads.qkv_width());
      const int32_t positions[2] = {7, 9}, lengths[2] = {34, 0}, sequence[1] = {0}, slot[1] = {33};
      std::vector<float> qkv = original;
      Fenced<float> y(2 * heads.y_width());
      std::fill(y.data(), y.data() + y.size(), -5.0f);
      const AttentionDecodeParams decode_params{.qkv = qkv.data(), .y = y.data(), .pool = cache.pool.data(), .layout = cache.layout,
                                                .pages = cache.pages.data(), .lengths = lengths, .cos = table.cos.data(),
                                                .sin = table.sin.data(), .positions = positions, .rows = 2, .blocks = 2,
                                                .heads = heads.heads, .scale = 1};
      CHECK_OK(cpu, cpu.api.attention_decode(cpu.device, &decode_params));
      CHECK(y.intact() && cache.pool.intact());
      for (int64_t i = 0; i < heads.y_width(); ++i) CHECK_EQ(y[heads.y_width() + i], -5.0f);
      std::vector<char> kept(cache.pool.data(), cache.pool.data() + cache.pool.size());
      std::copy(before.begin(), before.end(), cache.pool.data());
      std::vector<float> turned = original;
      const RopeKvParams rope{.qkv = turned.data(), .cos = table.cos.data(), .sin = table.sin.data(), .positions = positions,
                              .sequence = sequence, .slot = slot, .pages = cache.pages.data(), .pool = cache.pool.data(),
                              .layout = cache.layout, .rows = 1, .blocks = 2, .heads = heads.heads};
      CHECK_OK(cpu, cpu.api.rope_kv(cpu.device, &rope));
      CHECK(kept == std::vector<char>(cache.pool.data(), cache.pool.data() + cache.pool.size()));
    });
  }
}
