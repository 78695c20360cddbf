// Where Linux keeps what a container may use.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace himap {

constexpr int64_t kNoNumber = -1;

/** The first number of a file; kNoNumber where there is none, or a word such as "max". */
int64_t number_in(const std::string& path);

/** The number behind `key` in a file of "key number" lines; kNoNumber where there is none. */
int64_t value_of(const std::string& path, const std::string& key);

/**
 * Folders that may hold limits of this process: its control group's and those of the groups above it. A container may see
 * only the folder of its own group, or all of them, so some need not be there.
 * @param controller of version 1, e.g. "memory"; "" for version 2
 * @param root "" but in tests
 */
std::vector<std::string> group_folders(const std::string& controller, const std::string& root);

}  // namespace himap
