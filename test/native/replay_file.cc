#include "test/native/replay_file.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "native/model/manifest.h"
#include "native/prune/plan.h"

namespace himap::test {
namespace {

template <class T>
T next(std::istringstream& fields) {
  T value;
  if (!(fields >> value)) throw std::runtime_error("replay: a line is too short: " + fields.str().substr(0, 80));
  return value;
}

std::vector<int32_t> next_list(std::istringstream& fields) {
  std::vector<int32_t> list(next<size_t>(fields));
  for (int32_t& value : list) value = next<int32_t>(fields);
  return list;
}

FloatsAt next_place(std::istringstream& fields) {
  FloatsAt place;
  place.file = next<std::string>(fields);
  place.offset = next<int64_t>(fields);
  place.count = next<int64_t>(fields);
  return place;
}

Voters voters_of(const std::string& name) {
  return name == "instruction" ? Voters::kInstruction : name == "image" ? Voters::kImage : name == "last" ? Voters::kLast : Voters::kAll;
}

}  // namespace

Replay read_replay(const std::string& folder) {
  std::ifstream file(folder + "/replay.txt");
  if (!file) throw std::runtime_error("replay: " + folder + "/replay.txt could not be read");
  Replay replay;
  replay.folder = folder;
  bool in_manifest = false;
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    const auto kind = next<std::string>(fields);
    if (kind == "himap-manifest") in_manifest = true;
    if (in_manifest) {
      if (kind == "file") {
        const auto bytes = next<std::string>(fields);
        line = "file " + bytes + " " + folder + "/" + next<std::string>(fields);
      }
      replay.manifest += line + "\n";
      if (kind == "end") in_manifest = false;
    } else if (kind == "case") {
      replay.name = next<std::string>(fields);
    } else if (kind == "half") {
      HalfPrecision& half = replay.half[next<std::string>(fields)];
      for (double* value : {&half.none_max, &half.none_rms, &half.forced_max, &half.forced_rms, &half.overlap[0], &half.overlap[1]}) *value = next<double>(fields);
    } else if (kind == "request") {
      replay.requests.emplace_back().name = next<std::string>(fields);
    } else if (kind == "ids") {
      replay.requests.back().ids = next_list(fields);
    } else if (kind == "span") {
      replay.requests.back().span_start = next<int64_t>(fields);
      replay.requests.back().span_count = next<int64_t>(fields);
    } else if (kind == "features") {
      replay.requests.back().features = next_place(fields);
    } else if (kind == "pixels") {
      replay.requests.back().pixels = next_place(fields);
    } else if (kind == "policy") {
      replay.requests.back().policies.emplace_back().name = next<std::string>(fields);
    } else if (kind == "cut") {
      ReplayCut& cut = replay.requests.back().policies.back().cuts.emplace_back();
      cut.before = next<int64_t>(fields);
      cut.voters = next<std::string>(fields);
      cut.heads = next<std::string>(fields);
      cut.kept = next_list(fields);
    } else if (kind == "tokens") {
      replay.requests.back().policies.back().tokens = next_list(fields);
    } else if (kind == "logits") {
      replay.requests.back().policies.back().logits = next_place(fields);
    } else if (kind != "himap-replay" && kind != "end") {
      throw std::runtime_error("replay: unknown line " + line.substr(0, 80));
    }
  }
  return replay;
}

std::vector<float> read_floats(const Replay& replay, const FloatsAt& place) {
  std::vector<float> values(static_cast<size_t>(place.count));
  std::ifstream file(replay.folder + "/" + place.file, std::ios::binary);
  file.seekg(place.offset);
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
  if (!file) throw std::runtime_error("replay: " + place.file + " is too short");
  return values;
}

std::vector<StepCut> cuts_of(const ReplayPolicy& policy, int64_t image_tokens, bool forced) {
  std::vector<int32_t> alive;
  for (int32_t i = 0; i < image_tokens; ++i) alive.push_back(i);
  std::vector<StepCut> cuts;
  for (const ReplayCut& cut : policy.cuts) {
    StepCut& out = cuts.emplace_back();
    out.before = cut.before;
    out.keep = static_cast<int64_t>(cut.kept.size());
    out.voters = voters_of(cut.voters);
    out.heads_max = cut.heads == "max";
    out.ranked = !forced;
    if (forced) {
      for (const int32_t index : cut.kept) out.ranks.push_back(static_cast<int32_t>(std::find(alive.begin(), alive.end(), index) - alive.begin()));
    }
    alive = cut.kept;
  }
  return cuts;
}

StepSequence sequence_of(const Replay& replay, const ReplayRequest& request, std::vector<StepCut> cuts, int64_t burst) {
  StepSequence sequence;
  sequence.ids = request.ids;
  for (int32_t row = 0; row < static_cast<int32_t>(request.ids.size()); ++row) sequence.positions.push_back(row);
  if (request.span_count) sequence.spans.push_back({request.span_start, request.span_count, 0});
  sequence.cuts = std::move(cuts);
  sequence.burst = burst;
  PlanJob job{.layers = parse_manifest(replay.manifest).config.layers, .length = sequence.rows(), .image_tokens = request.span_count, .new_tokens = kNewTokens, .cuts = {}};
  for (const StepCut& cut : sequence.cuts) job.cuts.push_back({cut.before, cut.keep});
  int32_t page = 0;
  for (const Stage& stage : plan_stages(job)) {
    StepStage& own = sequence.stages.emplace_back();
    own.blocks = stage.blocks;
    for (int64_t i = 0; i < stage.blocks * (stage.end - stage.first); ++i) own.pages.push_back(page++);
  }
  return sequence;
}

}  // namespace himap::test
