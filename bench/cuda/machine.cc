#include "bench/cuda/machine.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <optional>
#include <thread>

#include "bench/cuda/gpu.h"
#include "native/backend/backend.h"

namespace himap::bench {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? value : "unknown";
}

std::string one_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  for (char& c : text) c = c == '\n' ? ';' : c;
  return text;
}

std::string smi(const std::string& query) {
  int status = 0;
  const std::string text = output_of("nvidia-smi --query-" + query + " --format=csv,noheader 2>/dev/null", status);
  return status == 0 ? one_line(text) : "nvidia-smi was not found";
}

std::string time_now() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return text;
}

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

std::string output_of(const std::string& command, int& status) {
  std::string text;
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) {
    status = -1;
    return text;
  }
  char part[512];
  while (std::fgets(part, sizeof part, pipe)) text += part;
  const int ended = pclose(pipe);
  status = WIFEXITED(ended) ? WEXITSTATUS(ended) : -1;
  return text;
}

std::string card_clocks() { return smi("gpu=clocks.sm,clocks.max.sm,clocks.mem,power.draw,power.limit,temperature.gpu"); }

void machine_facts(Report& report, const Options& options) {
  const GpuFacts card = gpu_facts();
  const std::optional<DeviceMemory> memory = device_memory(options.library_folder, options.backend);
  report.fact("time", words(time_now()));
  report.fact("commit", words(environment("HIMAP_BENCH_COMMIT")));
  report.fact("short", {options.quick ? "yes" : "no", options.quick ? "true" : "false"});
  report.fact("card", words(card.name));
  report.fact("capability", words(card.capability));
  report.fact("multiprocessors", number(card.multiprocessors, 0));
  report.fact("cacheBytes", number(static_cast<double>(card.cache_bytes), 0));
  report.fact("memoryBytes", memory ? number(static_cast<double>(memory->total), 0) : none());
  report.fact("freeBytes", memory ? number(static_cast<double>(memory->free), 0) : none());
  report.fact("cudaOfDriver", words(card.driver));
  report.fact("cudaOfBuild", words(card.runtime));
  report.fact("clocks", words("sm, largest sm, memory, power, its limit, temperature: " + card_clocks()));
  report.fact("others", words("processes on the card: " + smi("compute-apps=pid,used_memory") +
                              "; load of the host: " + first_line("/proc/loadavg")));
  report.fact("processors", number(std::thread::hardware_concurrency(), 0));
}

}  // namespace himap::bench
