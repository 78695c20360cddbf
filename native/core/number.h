// Numbers as text. strtod, printf and std::to_string go by the locale that the host process has set, under which a half may
// be "0,5"; these do not.
#pragma once

#include <optional>
#include <string>

namespace himap {

/** The number that the whole of `text` is, as C writes it. */
std::optional<double> parse_number(const std::string& text);

/** As C writes it, 15 digits at most. */
std::string number_text(double number);

}  // namespace himap
