#include "native/engine/graphs.h"

#include <algorithm>

namespace himap {

Graphs::~Graphs() {
  for (auto& [key, entry] : entries_) drop(entry);
}

void Graphs::run(const Key& key, const Operations& operations, const std::function<void()>& check) {
  if (!backend_.info().graphs) return run_direct(operations, check);
  const auto found = entries_.find(key);
  if (found == entries_.end()) {
    run_direct(operations, check);
    make_room();
    entries_[key].used = ++clock_;
    return;
  }
  Entry& entry = found->second;
  entry.used = ++clock_;
  if (entry.refused) return run_direct(operations, check);
  check();
  if (replay(entry)) {
    ++counts_.replayed;
    return;
  }
  record(entry, operations);
  if (!entry.refused && replay(entry)) return;
  run_direct(operations, check);
}

void Graphs::run_direct(const Operations& operations, const std::function<void()>& check) {
  operations(check);
  ++counts_.direct;
}

/** False: there is no graph, or memory that it uses has moved; nothing has run. */
bool Graphs::replay(Entry& entry) {
  if (!entry.graph) return false;
  int32_t launched = 0;
  if (entry.moves == backend_.moves()) backend_.call(&BackendApi::graph_launch, static_cast<const Graph*>(entry.graph), &launched);
  if (!launched) drop(entry);
  return launched != 0;
}

void Graphs::record(Entry& entry, const Operations& operations) {
  try {
    backend_.call(&BackendApi::graph_begin);
    try {
      operations([] {});
    } catch (...) {  // whatever it was, the recording has to end
      backend_.call(&BackendApi::graph_end, int32_t{0}, &entry.graph);
      throw;
    }
    backend_.call(&BackendApi::graph_end, int32_t{1}, &entry.graph);
    entry.moves = backend_.moves();
    ++counts_.recorded;
  } catch (const Error& error) {
    if (error.code == Code::ERR_DEVICE_LOST) throw;
    entry.refused = true;
    ++counts_.refused;
  }
}

void Graphs::make_room() {
  if (entries_.size() < kMost) return;
  const auto oldest = std::min_element(entries_.begin(), entries_.end(),
                                       [](const auto& a, const auto& b) { return a.second.used < b.second.used; });
  drop(oldest->second);
  entries_.erase(oldest);
}

void Graphs::drop(Entry& entry) {
  if (entry.graph) backend_.release(std::exchange(entry.graph, nullptr));
}

}  // namespace himap
