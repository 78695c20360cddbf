// The locale of a host process that writes a half as "0,5": made by localedef, since few machines have one installed.
#pragma once

#include <clocale>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace himap::test {

class CommaLocale {
 public:
  CommaLocale() {
    char folder[] = "/tmp/himap-locale-XXXXXX";
    if (!mkdtemp(folder)) return;
    folder_ = folder;
    std::ofstream(folder_ + "/source") << "LC_NUMERIC\ndecimal_point \",\"\nthousands_sep \".\"\ngrouping 3;3\nEND LC_NUMERIC\n";
    // It warns of every category that the source does not have, and says so with its exit status as well.
    [[maybe_unused]] const int warned = std::system(("localedef -c -i " + folder_ + "/source " + folder_ + "/comma > /dev/null 2>&1").c_str());
    setenv("LOCPATH", folder, 1);
    set_ = std::setlocale(LC_NUMERIC, "comma") != nullptr;
  }
  ~CommaLocale() {
    std::setlocale(LC_NUMERIC, "C");
    unsetenv("LOCPATH");
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }
  CommaLocale(const CommaLocale&) = delete;
  CommaLocale& operator=(const CommaLocale&) = delete;

  /** Whether it is in force. */
  bool set() const { return set_; }

 private:
  std::string folder_;
  bool set_ = false;
};

}  // namespace himap::test
