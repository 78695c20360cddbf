// Turns one layer's column sums into what `forward` returns: attention that image tokens receive, and block sums.
#pragma once

#include <vector>

#include "native/engine/batch.h"

namespace himap {

/**
 * Appends one layer to `result.colsum`, [4 voter sets, heads, image rows alive], and to `result.blocks`,
 * [heads, 3 receivers, 3 sources] in the order prefix, image, instruction.
 * @param sums the layer's block of this sequence, laid out by study_sums: (heads, query tiles, 5 groups, rows)
 * @param votes (rows) of the sequence in this segment
 */
void append_study(const float* sums, int64_t heads, const std::vector<uint8_t>& votes, StepResult& result);

}  // namespace himap
