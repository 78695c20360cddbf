// Another program's times for the same requests (rivals/hf_llava.py), read from what it prints: tab-separated lines
//   result  first_token|decode  BATCH  TEXT  MODE  MILLISECONDS
//   failed  first_token|decode  BATCH  TEXT  MODE  WHY
//   note    TEXT
#include <cmath>
#include <sstream>

#include "bench/cuda/bench.h"
#include "bench/cuda/machine.h"

namespace himap::bench {
namespace {

std::vector<std::string> fields_of(const std::string& line) {
  std::vector<std::string> fields;
  std::istringstream stream(line);
  for (std::string field; std::getline(stream, field, '\t');) fields.push_back(field);
  return fields;
}

double found(const Times& times, const std::tuple<int64_t, int64_t, bool>& key) {
  const auto at = times.find(key);
  return at == times.end() ? NAN : at->second;
}

}  // namespace

void measure_rival(Bench& bench) {
  Table table("rival", "Hugging Face transformers, the same shape in bf16",
              {{"what", "what"},
               {"batch", "batch"},
               {"text", "text tokens"},
               {"mode", "mode"},
               {"rivalMs", "transformers, ms"},
               {"denseMs", "himap engine, dense, ms"},
               {"ahead", "ahead"},
               {"prunedMs", "himap, ms"},
               {"prunedAhead", "ahead"}});
  if (bench.options.rival.empty()) {
    table.note("Not run: no Python with torch and transformers was found.");
    bench.report.finish(table);
    return;
  }
  int status = 0;
  std::istringstream output(output_of(bench.options.rival, status));
  std::map<std::pair<int64_t, int64_t>, double> best;  // first tokens, of the fastest mode
  for (std::string line; std::getline(output, line);) {
    const std::vector<std::string> fields = fields_of(line);
    if (fields.size() == 2 && fields[0] == "note") table.note(fields[1]);
    if (fields.size() != 6 || (fields[0] != "result" && fields[0] != "failed")) continue;
    const std::string& what = fields[1];
    const int64_t batch = std::atoll(fields[2].c_str()), text = std::atoll(fields[3].c_str());
    const Times& ours = what == "decode" ? bench.decode_step : bench.first_token;
    const double dense = found(ours, {batch, text, false}), pruned = found(ours, {batch, text, true});
    const bool failed = fields[0] == "failed";
    const double theirs = failed ? NAN : std::atof(fields[5].c_str());
    table.add({words(what == "decode" ? "decode step" : "first token"), number(static_cast<double>(batch), 0),
               number(static_cast<double>(text), 0), words(fields[4]), failed ? words("failed: " + fields[5]) : number(theirs, 2),
               number(dense, 2), number(theirs / dense, 2), number(pruned, 2), number(theirs / pruned, 2)});
    if (failed || what != "first_token") continue;
    const auto [at, added] = best.emplace(std::make_pair(batch, text), theirs);
    if (!added && theirs < at->second) at->second = theirs;
  }
  if (status != 0) {
    table.note("The rival ended with status " + std::to_string(status) + (status == 124 ? ": its time was up." : "."));
  }
  bench.report.finish(table);
  for (const auto& [key, theirs] : best) {
    const auto& [batch, text] = key;
    const double dense = found(bench.first_token, {batch, text, false});
    if (!std::isfinite(dense) || (batch != 1 && batch != 8)) continue;
    bench.thresholds.at_least("first token ahead of transformers, dense, " + std::to_string(batch) + " prompts, " +
                                  std::to_string(text) + " text tokens",
                              theirs / dense, batch == 1 ? 1.5 : 1.0);
  }
}

}  // namespace himap::bench
