// libFuzzer's place where there is no clang: runs a target on every file of its corpus, then on mutations of them, the
// same ones in every run.
//   fuzz_ENTRY CORPUS [INPUTS] [SEED]       or      fuzz_ENTRY FILE     (one input again)
#include <sanitizer/asan_interface.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "test/fuzz/native/target.h"

namespace {

using Input = std::vector<uint8_t>;
constexpr unsigned kSeconds = 20;  // an input that takes longer hangs
constexpr size_t kLongest = 1 << 14;

const Input* running = nullptr;

/** What ends the run is kept, so that it can be run again. */
void keep_input() {
  if (!running) return;
  std::ofstream("crash-input", std::ios::binary).write(reinterpret_cast<const char*>(running->data()), static_cast<std::streamsize>(running->size()));
  std::fprintf(stderr, "fuzz: the input is in ./crash-input\n");
}

void on_signal(int signal) {
  std::fprintf(stderr, "fuzz: %s\n", signal == SIGALRM ? "an input took more than 20 s" : "aborted");
  keep_input();
  _exit(1);
}

void run(const Input& input) {
  running = &input;
  alarm(kSeconds);
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

Input read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return Input(std::istreambuf_iterator<char>(file), {});
}

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  size_t below(size_t limit) { return static_cast<size_t>(random_() % limit); }

  Input mutate(Input input, const Input& other) {
    for (size_t left = 1 + below(6); left > 0; --left) mutate_once(input, other);
    if (input.size() > kLongest) input.resize(kLongest);
    return input;
  }

 private:
  void mutate_once(Input& input, const Input& other) {
    if (input.empty()) input.push_back(static_cast<uint8_t>(below(256)));
    const size_t at = below(input.size());
    const auto place = input.begin() + static_cast<std::ptrdiff_t>(at);
    const size_t length = 1 + below(std::min<size_t>(16, input.size() - at));
    switch (below(8)) {
      case 0:
        *place ^= static_cast<uint8_t>(1u << below(8));
        break;
      case 1:
        *place = static_cast<uint8_t>(below(256));
        break;
      case 2:
        input.erase(place, place + static_cast<std::ptrdiff_t>(length));
        break;
      case 3: {
        const Input copy(place, place + static_cast<std::ptrdiff_t>(length));
        input.insert(input.begin() + static_cast<std::ptrdiff_t>(below(input.size() + 1)), copy.begin(), copy.end());
        break;
      }
      case 4: {
        constexpr uint8_t kBorders[] = {0, 1, 0x7F, 0x80, 0xFF, ' ', '\n', '-', '%'};
        *place = kBorders[below(sizeof(kBorders))];
        break;
      }
      case 5: {  // the tail of another input
        if (other.empty()) break;
        input.resize(at);
        input.insert(input.end(), other.begin() + static_cast<std::ptrdiff_t>(below(other.size())), other.end());
        break;
      }
      case 6:
        replace_number(input, at);
        break;
      default:
        input.resize(at);
    }
  }

  /** Texts: the next number becomes another. */
  void replace_number(Input& input, size_t at) {
    const auto digit = [](uint8_t c) { return c >= '0' && c <= '9'; };
    const auto first = std::find_if(input.begin() + static_cast<std::ptrdiff_t>(at), input.end(), digit);
    const auto last = std::find_if_not(first, input.end(), digit);
    static const std::string kNumbers[] = {"0", "1", "8", "-1", "7", "16", "1024", "1048576", "16777216", "2147483648",
                                           "4294967296", "1125899906842624", "9223372036854775807", "1e999", "nan"};
    const std::string& number = kNumbers[below(std::size(kNumbers))];
    const auto place = input.erase(first, last);
    input.insert(place, number.begin(), number.end());
  }

  std::mt19937_64 random_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s CORPUS [INPUTS] [SEED]\n", argv[0]);
    return 2;
  }
  __sanitizer_set_death_callback(keep_input);
  std::signal(SIGALRM, on_signal);
  std::signal(SIGABRT, on_signal);

  const std::filesystem::path path = argv[1];
  if (std::filesystem::is_regular_file(path)) {
    run(read_file(path));
    return 0;
  }
  const size_t inputs = argc > 2 ? std::stoull(argv[2]) : 1000;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(path)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<Input> corpus;
  for (const auto& file : files) corpus.push_back(read_file(file));
  for (const Input& input : corpus) run(input);
  Mutator mutator(argc > 3 ? std::stoull(argv[3]) : 1);
  for (size_t i = 0; i < inputs; ++i) {
    const Input input = mutator.mutate(corpus[mutator.below(corpus.size())], corpus[mutator.below(corpus.size())]);
    run(input);
  }
  running = nullptr;
  std::printf("NOTE: %zu files of the corpus and %zu mutations of them, %zu carried out, the others refused\n", corpus.size(), inputs,
              himap::test::accepted());
  std::printf("%zu passed, 0 failed, 0 skipped\n", corpus.size() + inputs);
  return 0;
}
