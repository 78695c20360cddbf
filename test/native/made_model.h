// Models that lie in no checkpoint: the tensors that a shape needs, a manifest of them, and a file in memory to hold them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "native/model/manifest.h"

namespace himap::test {

/** A file that exists in memory only, under a path of this process. */
class MemoryFile {
 public:
  explicit MemoryFile(const std::vector<uint8_t>& bytes);
  /** `bytes` zeros. */
  explicit MemoryFile(int64_t bytes);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

struct MadeTensor {
  std::string name;
  std::vector<int64_t> shape;

  int64_t elements() const;
};

/** Every tensor of a model of this shape, in a fixed order. */
std::vector<MadeTensor> tensors_of(const ModelConfig& config);

/** Where a tensor lies in the one file; places may overlap. */
struct Place {
  DType type;
  int64_t offset;  // bytes
};

/** A manifest over one file; `place` is asked once per tensor, in the order of tensors_of. */
std::string manifest_of(const ModelConfig& config, const std::string& path, int64_t file_bytes,
                        const std::function<Place(const MadeTensor&)>& place);

}  // namespace himap::test
