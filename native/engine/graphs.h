// Runs of operations that come again and again, recorded once and replayed by one call of the backend: a decode step of
// one size, the vision tower over so many pictures. Where a device has no graphs, or refuses one, the operations run as
// they are; the bits are the same either way.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "native/backend/backend.h"

namespace himap {

/** What has become of runs so far; a run counts once. */
struct GraphCounts {
  int64_t direct = 0;    // operations called one by one
  int64_t recorded = 0;  // graphs made, each replayed at once
  int64_t replayed = 0;  // replays of graphs made before
  int64_t refused = 0;   // attempts to make one that failed
};

class Graphs {
 public:
  /** Graphs kept at the same time; the one that was used longest ago makes room. */
  static constexpr size_t kMost = 32;

  explicit Graphs(Backend& backend) : backend_(backend) {}
  Graphs(const Graphs&) = delete;
  Graphs& operator=(const Graphs&) = delete;
  ~Graphs();

  using Key = std::vector<int64_t>;
  /** Gets what to call between operations. */
  using Operations = std::function<void(const std::function<void()>& between)>;

  /**
   * Runs `operations`, which do nothing but call operations of the backend, with nothing but device memory and values that
   * follow from `key`. The first run of a key is direct, so that buffers and the device's workspaces find their sizes; the
   * second records. `check` is called between operations of a direct run and before a replay, and may throw.
   * Errors: what operations report when they run; a graph that cannot be made is counted and the key stays direct.
   */
  void run(const Key& key, const Operations& operations, const std::function<void()>& check);

  const GraphCounts& counts() const { return counts_; }

 private:
  struct Entry {
    Graph* graph = nullptr;
    uint64_t moves = 0;  // of the backend's buffers when it was recorded
    uint64_t used = 0;
    bool refused = false;
  };

  void run_direct(const Operations& operations, const std::function<void()>& check);
  bool replay(Entry& entry);
  void record(Entry& entry, const Operations& operations);
  void make_room();
  void drop(Entry& entry);

  Backend& backend_;
  std::map<Key, Entry> entries_;
  uint64_t clock_ = 0;
  GraphCounts counts_;
};

}  // namespace himap
