// Grids: configuration, the OS threads that share a grid's blocks, and launch() of kernels/device.h.
#include <atomic>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/device.h"
#include "kernels/simt/machine.h"
#include "kernels/simt/simt.h"

namespace himap::simt {
namespace {

thread_local std::string failure;

/** The position of the environment's value among `names`; `fallback` when unset, -1 when unknown. */
int32_t choice(const char* variable, std::initializer_list<const char*> names, int32_t fallback) {
  const char* value = std::getenv(variable);
  if (!value || !*value) return fallback;
  int32_t index = 0;
  for (const char* name : names) {
    if (std::string(name) == value) return index;
    ++index;
  }
  return -1;
}

int64_t number(const char* variable, int64_t fallback) {
  const char* value = std::getenv(variable);
  if (!value || !*value) return fallback;
  char* end = nullptr;
  const long long parsed = std::strtoll(value, &end, 10);
  return *end == '\0' && parsed >= 0 ? parsed : -1;
}

struct Settings {
  Config config;
  std::string fault;  // not empty: no launch may run
};

Settings from_environment() {
  const int32_t order = choice("HIMAP_SIMT_ORDER", {"forward", "reverse", "random"}, 0);
  const int32_t copies = choice("HIMAP_SIMT_COPIES", {"early", "late"}, 0);
  const int32_t products = choice("HIMAP_SIMT_PRODUCTS", {"early", "late"}, 0);
  const int64_t seed = number("HIMAP_SIMT_SEED", 1), threads = number("HIMAP_SIMT_THREADS", 0);
  Settings settings{{static_cast<LaneOrder>(order), static_cast<CopyTiming>(copies), static_cast<ProductTiming>(products),
                     static_cast<uint64_t>(seed), static_cast<int32_t>(threads)}, ""};
  if (order < 0) settings.fault = "HIMAP_SIMT_ORDER must be forward, reverse or random";
  if (copies < 0) settings.fault = "HIMAP_SIMT_COPIES must be early or late";
  if (products < 0) settings.fault = "HIMAP_SIMT_PRODUCTS must be early or late";
  if (seed < 0) settings.fault = "HIMAP_SIMT_SEED must be a whole number of at least 0";
  if (threads < 0) settings.fault = "HIMAP_SIMT_THREADS must be a whole number of at least 0";
  return settings;
}

Settings& settings() {
  static Settings current = from_environment();
  return current;
}

/** Machines that no launch uses: their stacks are worth keeping. */
class Idle {
 public:
  std::unique_ptr<Machine> take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (machines_.empty()) return std::make_unique<Machine>();
    std::unique_ptr<Machine> machine = std::move(machines_.back());
    machines_.pop_back();
    return machine;
  }
  void put(std::unique_ptr<Machine> machine) {
    const std::lock_guard<std::mutex> lock(mutex_);
    machines_.push_back(std::move(machine));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Machine>> machines_;
};

Idle& idle() {
  static Idle machines;
  return machines;
}

uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/** Blocks come in the same manner of order as lanes: nothing may rely on a lower block having run. */
uint64_t block_at(uint64_t turn, uint64_t blocks, const Config& config) {
  if (config.order == LaneOrder::kForward) return turn;
  if (config.order == LaneOrder::kReverse) return blocks - 1 - turn;
  constexpr uint64_t kPrime = 1000003;
  return blocks % kPrime == 0 ? turn : (turn * kPrime + config.seed) % blocks;
}

class GridRun {
 public:
  GridRun(const Grid& grid, const Config& config)
      : grid_(grid), config_(config), blocks_(uint64_t{grid.blocks.x} * grid.blocks.y * grid.blocks.z) {}

  bool run() {
    if (blocks_ == 0) return refuse("a grid must have at least one block");
    if (grid_.threads <= 0 || grid_.threads > 1024 || grid_.threads % 32 != 0) {
      return refuse("a block must have a multiple of 32 threads, at most 1024");
    }
    uint64_t workers = config_.os_threads > 0 ? static_cast<uint64_t>(config_.os_threads) : std::thread::hardware_concurrency();
    workers = std::min(std::max<uint64_t>(workers, 1), blocks_);
    std::vector<std::thread> others;
    for (uint64_t i = 1; i < workers; ++i) others.emplace_back([this] { work(); });
    work();
    for (std::thread& other : others) other.join();
    return failure_.empty();
  }

  const std::string& failure() const { return failure_; }

 private:
  bool refuse(const std::string& text) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (failure_.empty()) failure_ = text;
    stop_ = true;
    return false;
  }

  void work() {
    try {
      std::unique_ptr<Machine> machine = idle().take();
      machine->prepare(grid_, config_);
      for (uint64_t turn; !stop_ && (turn = next_++) < blocks_;) {
        const uint64_t index = block_at(turn, blocks_, config_);
        const device::Dim3 block{static_cast<uint32_t>(index % grid_.blocks.x),
                                 static_cast<uint32_t>(index / grid_.blocks.x % grid_.blocks.y),
                                 static_cast<uint32_t>(index / grid_.blocks.x / grid_.blocks.y)};
        if (!machine->run_block(block, mix(config_.seed + index))) {
          refuse(machine->failure);
          return;  // its fibers stopped in the middle: it is not used again
        }
      }
      idle().put(std::move(machine));
    } catch (const std::exception& error) {
      refuse(std::string("the machine could not run: ") + error.what());
    }
  }

  const Grid& grid_;
  const Config& config_;
  const uint64_t blocks_;
  std::atomic<uint64_t> next_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::string failure_;
};

}  // namespace

const Config& config() { return settings().config; }

void set_config(const Config& config) { settings() = {config, ""}; }

const std::string& last_failure() { return failure; }

void refuse(const std::string& text) { failure = text; }

bool run(const Grid& grid) {
  if (!settings().fault.empty()) {
    failure = settings().fault;
    return false;
  }
  GridRun run(grid, settings().config);
  if (run.run()) return true;
  failure = run.failure();
  return false;
}

}  // namespace himap::simt

namespace himap::device {

const char* error_text(DeviceError error) {
  return error == DeviceError::kNone ? "no error" : simt::last_failure().c_str();
}

DeviceError refused(const char* text) {
  simt::refuse(text);
  return DeviceError::kLaunchFailed;
}

DeviceError launch_body(const LaunchShape& shape, void (*body)(const void*), const void* argument) {
  const bool ran = simt::run({.name = shape.name,
                              .blocks = shape.grid,
                              .threads = shape.threads,
                              .shared_bytes = shape.shared_bytes,
                              .body = body,
                              .argument = argument});
  return ran ? DeviceError::kNone : DeviceError::kLaunchFailed;
}

}  // namespace himap::device
