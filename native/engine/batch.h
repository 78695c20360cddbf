// A prefill batch as the decoder sees it: rows of all sequences packed one after another, and how the packing changes at
// every cut. Host arithmetic only, from the stage tables; nothing here depends on which tokens survive.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/select/select.h"
#include "native/engine/step.h"
#include "native/prune/plan.h"

namespace himap {

/** The packing of layers [first, end): between two layers at which any sequence of the batch is cut. */
struct Segment {
  int64_t first = 0;
  int64_t end = 0;
  int64_t rows = 0;
  int64_t max_rows = 0;              // longest sequence
  std::vector<int32_t> cu_rows;      // (sequences + 1)
  std::vector<int32_t> image_rows;   // (sequences) image rows alive
  std::vector<int32_t> row_sequence; // (rows)
  std::vector<int32_t> row_slot;     // (rows) index in the stage's cache
};

/** What each stage of a prompt holds after its prefill. */
std::vector<Stage> stages_of(const StepSequence& sequence, int64_t layers);

struct PrefillBatch {
  std::vector<const StepSequence*> sequences;
  std::vector<std::vector<Stage>> stages;  // per sequence

  // Of the rows before any cut.
  std::vector<int32_t> source;       // token id, or -1 - row of the features
  std::vector<int32_t> positions;
  std::vector<uint8_t> votes;
  std::vector<int32_t> image_index;  // -1: not an image row

  std::vector<Segment> segments;     // ascending; a cut before layer 0 leaves an empty first one

  int32_t size() const { return static_cast<int32_t>(sequences.size()); }
};

/** `image_tokens`: rows of one image, to address the features. */
PrefillBatch make_prefill_batch(const std::vector<const StepSequence*>& sequences, int64_t layers, int64_t image_tokens);

/** Which column sums one layer's attention has to emit, and where they go. */
struct SumsLayout {
  std::vector<uint8_t> masks;     // voter groups
  std::vector<int32_t> columns;   // (sequences, 2)
  std::vector<int64_t> offsets;   // (sequences)
  int64_t floats = 0;             // of all sequences together
  bool empty() const { return floats == 0; }
};

/** For a study: every voter set and the prefix, over every column. Group g < kVoterSets is Voters(g). */
SumsLayout study_sums(const Segment& segment, int64_t heads);

/** For the cuts before layer `segment.end`: only the groups that vote, only image columns. */
SumsLayout cut_sums(const PrefillBatch& batch, const Segment& segment, int64_t heads);

/** The cut of a sequence before `layer`, or null. */
const StepCut* cut_before(const StepSequence& sequence, int64_t layer);

/** Bytes and lists that one selection needs beside the sums. */
struct Selection {
  std::vector<SelectSequence> sequences;
  std::vector<int32_t> ranks;
  std::vector<float> weights;
  int64_t scores = 0;  // floats
};

/** The selection between `from` and `to`, whose column sums were laid out as `sums`. */
Selection make_selection(const PrefillBatch& batch, const Segment& from, const Segment& to, const SumsLayout& sums);

/** Query tiles of a sequence of `rows` rows. */
int32_t query_tiles(int64_t rows);

}  // namespace himap
