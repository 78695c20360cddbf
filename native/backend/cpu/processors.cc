// How many processors this process may keep busy: those it may run on, and what every control group above it grants.
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>

#include "native/backend/cpu/control_groups.h"
#include "native/backend/cpu/device.h"

namespace himap {
namespace {

/** Processors' worth of time, begun ones whole; `most` where there is no quota. */
int32_t granted(int64_t quota, int64_t period, int32_t most) {
  if (quota <= 0 || period <= 0) return most;
  return static_cast<int32_t>(std::min<int64_t>(most, (quota - 1) / period + 1));
}

}  // namespace

int32_t system_processors(const std::string& root) {
  cpu_set_t set;
  CPU_ZERO(&set);
  int32_t count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 0;
  if (count <= 0) count = static_cast<int32_t>(std::thread::hardware_concurrency());
  count = std::max(count, 1);
  for (const std::string& folder : group_folders("", root)) {
    std::ifstream file(folder + "cpu.max");  // "200000 100000", or "max 100000"
    int64_t quota = 0, period = 0;
    if (file >> quota >> period) count = granted(quota, period, count);
  }
  for (const std::string& folder : group_folders("cpu", root)) {
    count = granted(number_in(folder + "cpu.cfs_quota_us"), number_in(folder + "cpu.cfs_period_us"), count);
  }
  return count;
}

}  // namespace himap
