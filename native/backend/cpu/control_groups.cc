#include "native/backend/cpu/control_groups.h"

#include <fstream>

namespace himap {
namespace {

/** The group of this process in the controller's tree, e.g. "/user.slice"; "" where none is named. */
std::string group_path(const std::string& controller, const std::string& root) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "4:cpu,cpuacct:/docker/abc"
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = "," + line.substr(first + 1, second - first - 1) + ",";
    if (names.find("," + controller + ",") == std::string::npos) continue;
    const std::string path = line.substr(second + 1);
    return path == "/" ? "" : path;
  }
  return "";
}

}  // namespace

int64_t number_in(const std::string& path) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? value : kNoNumber;
}

int64_t value_of(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string name;
  int64_t value = 0;
  for (std::string rest; file >> name >> value; std::getline(file, rest)) {
    if (name == key) return value;
  }
  return kNoNumber;
}

std::vector<std::string> group_folders(const std::string& controller, const std::string& root) {
  const std::string mount = root + "/sys/fs/cgroup" + (controller.empty() ? "" : "/" + controller);
  std::vector<std::string> folders;
  for (std::string path = group_path(controller, root);;) {
    folders.push_back(mount + path + "/");
    if (path.empty()) return folders;
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
}

}  // namespace himap
