#include "native/core/number.h"

#include <locale.h>

#include <cstdio>
#include <cstdlib>

namespace himap {
namespace {

/** While it lives, this thread has the locale of C, and the others what they had. */
class PlainLocale {
 public:
  PlainLocale() {
    static const locale_t plain = newlocale(LC_ALL_MASK, "C", nullptr);
    before_ = uselocale(plain);
  }
  ~PlainLocale() { uselocale(before_); }
  PlainLocale(const PlainLocale&) = delete;
  PlainLocale& operator=(const PlainLocale&) = delete;

 private:
  locale_t before_;
};

}  // namespace

std::optional<double> parse_number(const std::string& text) {
  const PlainLocale plain;
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (text.empty() || end != text.c_str() + text.size()) return std::nullopt;
  return number;
}

std::string number_text(double number) {
  const PlainLocale plain;
  char text[32];
  std::snprintf(text, sizeof(text), "%.15g", number);
  return text;
}

}  // namespace himap
