// What the run's numbers depend on besides the code: the card, its clocks, what else ran.
#pragma once

#include <string>

#include "bench/cuda/options.h"
#include "bench/cuda/report.h"

namespace himap::bench {

void machine_facts(Report& report, const Options& options);

/** The card's clocks, power and temperature now, in nvidia-smi's words, or why they are not known. */
std::string card_clocks();

/** The standard output of a shell command; `status` is its exit status. */
std::string output_of(const std::string& command, int& status);

}  // namespace himap::bench
