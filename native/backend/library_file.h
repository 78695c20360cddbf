// Whether a shared library's file is all there, asked before the system opens it.
#pragma once

#include <string>

namespace himap {

/**
 * ERR_NO_BINARY where the file is missing, is no shared library, or is cut short, as an interrupted download or a full
 * disk leaves it: dlopen maps a library, so that reading one's missing end would end the process (SIGBUS).
 * lib/binding/elf.ts does the same for the addon itself.
 */
void check_library_file(const std::string& path);

}  // namespace himap
