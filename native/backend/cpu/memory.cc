// How much memory this process could still have: the system's, and that of every control group above it.
#include <algorithm>
#include <string>

#include "native/backend/cpu/control_groups.h"
#include "native/backend/cpu/device.h"

namespace himap {
namespace {

struct GroupFiles {
  const char* controller;
  const char* limit;
  const char* used;
  const char* cached[2];  // what of `used` the system takes back when memory is wanted
};
constexpr GroupFiles kGroups[] = {
    {"", "memory.max", "memory.current", {"inactive_file", "active_file"}},
    {"memory", "memory.limit_in_bytes", "memory.usage_in_bytes", {"total_inactive_file", "total_active_file"}},
};

}  // namespace

void system_memory(int64_t& free, int64_t& total, const std::string& root) {
  constexpr int64_t kKibi = 1024;
  const int64_t all = value_of(root + "/proc/meminfo", "MemTotal:");
  const int64_t available = value_of(root + "/proc/meminfo", "MemAvailable:");
  require(all > 0 && available >= 0, Code::ERR_INTERNAL, "[memory] /proc/meminfo does not tell");
  total = all * kKibi;
  free = available * kKibi;
  for (const GroupFiles& files : kGroups) {
    for (const std::string& folder : group_folders(files.controller, root)) {
      const int64_t limit = number_in(folder + files.limit);
      const int64_t used = number_in(folder + files.used);
      if (limit == kNoNumber || used == kNoNumber) continue;
      int64_t kept = used;
      for (const char* cached : files.cached) kept -= std::max<int64_t>(0, value_of(folder + "memory.stat", cached));
      total = std::min(total, limit);
      free = std::min(free, std::max<int64_t>(0, limit - std::max<int64_t>(0, kept)));
    }
  }
}

}  // namespace himap
