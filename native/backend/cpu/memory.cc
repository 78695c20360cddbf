// How much memory this process could still have: the system's, and that of every control group above it.
#include <algorithm>
#include <fstream>
#include <string>

#include "native/backend/cpu/device.h"

namespace himap {
namespace {

constexpr int64_t kNone = -1;

/** The number behind `key` in a file of "key number" lines; kNone where there is none. */
int64_t value_of(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string name;
  int64_t value = 0;
  for (std::string rest; file >> name >> value; std::getline(file, rest)) {
    if (name == key) return value;
  }
  return kNone;
}

/** The one number of a file; kNone where there is none, or the word "max". */
int64_t number_in(const std::string& path) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? value : kNone;
}

struct GroupFiles {
  const char* mount;
  const char* line;  // how its line of /proc/self/cgroup begins, behind the first colon
  const char* limit;
  const char* used;
  const char* cached[2];  // what of `used` the system takes back when memory is wanted
};
constexpr GroupFiles kGroups[] = {
    {"/sys/fs/cgroup", ":", "memory.max", "memory.current", {"inactive_file", "active_file"}},
    {"/sys/fs/cgroup/memory", "memory:", "memory.limit_in_bytes", "memory.usage_in_bytes", {"total_inactive_file", "total_active_file"}},
};

/** The group of this process below `mount`, e.g. "/user.slice"; "" where none is named. */
std::string group_path(const std::string& root, const GroupFiles& files) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    const std::string begin = files.line;
    if (colon == std::string::npos || line.compare(colon + 1, begin.size(), begin) != 0) continue;
    const std::string path = line.substr(colon + 1 + begin.size());
    return path == "/" ? "" : path;
  }
  return "";
}

}  // namespace

void system_memory(int64_t& free, int64_t& total, const std::string& root) {
  constexpr int64_t kKibi = 1024;
  const int64_t all = value_of(root + "/proc/meminfo", "MemTotal:");
  const int64_t available = value_of(root + "/proc/meminfo", "MemAvailable:");
  require(all > 0 && available >= 0, Code::ERR_INTERNAL, "[memory] /proc/meminfo does not tell");
  total = all * kKibi;
  free = available * kKibi;
  for (const GroupFiles& files : kGroups) {
    // A container may see only the folder of its own group, or all of them: each level that is there counts.
    std::string path = group_path(root, files);
    for (;;) {
      const std::string folder = root + files.mount + path + "/";
      const int64_t limit = number_in(folder + files.limit);
      const int64_t used = number_in(folder + files.used);
      if (limit != kNone && used != kNone) {
        int64_t kept = used;
        for (const char* cached : files.cached) kept -= std::max<int64_t>(0, value_of(folder + "memory.stat", cached));
        total = std::min(total, limit);
        free = std::min(free, std::max<int64_t>(0, limit - std::max<int64_t>(0, kept)));
      }
      if (path.empty()) break;
      path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
}

}  // namespace himap
