// A weight where it lies in its files, and the division of its columns of y into panels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "native/backend/ops.h"

namespace himap {

struct Weight {
  std::vector<WeightPart> parts;
  WeightLayout layout;
  int64_t out;  // rows of all parts
  int64_t in;

  /** Columns of y: a gate and its up make one. */
  int64_t columns() const { return layout == WeightLayout::kGateUp ? parts[0].out : out; }
};

/** Consecutive columns of y that come from consecutive rows of one part (and of its twin, for kGateUp). */
struct WeightRows {
  const WeightPart* part;
  const WeightPart* maybe_up;
  int64_t row;     // in the part
  int64_t column;  // of y
  int32_t rows;
};

inline const char* row_address(const WeightPart& part, int64_t row) {
  return static_cast<const char*>(part.data) + dtype_bytes(part.type, row * part.in);
}

/** Groups of at most `size` columns; no group crosses a part, so that a group has one type. */
class WeightGroups {
 public:
  WeightGroups(const Weight& weight, int32_t size) : weight_(weight), size_(size) {
    const size_t parts = weight.layout == WeightLayout::kGateUp ? 1 : weight.parts.size();
    starts_.reserve(parts + 1);
    starts_.push_back(0);
    for (size_t i = 0; i < parts; ++i) starts_.push_back(starts_.back() + (weight.parts[i].out + size - 1) / size);
  }

  int64_t count() const { return starts_.back(); }

  WeightRows operator[](int64_t group) const {
    size_t i = 0;
    int64_t column = 0;
    while (group >= starts_[i + 1]) column += weight_.parts[i++].out;
    const int64_t row = (group - starts_[i]) * size_;
    const WeightPart& part = weight_.parts[i];
    return {&part, weight_.layout == WeightLayout::kGateUp ? &weight_.parts[1] : nullptr, row, column + row,
            static_cast<int32_t>(std::min<int64_t>(size_, part.out - row))};
  }

 private:
  const Weight& weight_;
  int64_t size_;
  std::vector<int64_t> starts_;  // (parts + 1) first group of each part
};

}  // namespace himap
