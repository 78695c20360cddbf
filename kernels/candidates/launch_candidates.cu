#include "kernels/candidates/launch_candidates.h"

#include "kernels/candidates/candidates.cuh"

namespace himap {

device::DeviceError launch_candidates(const CandidatesParams& p, device::Stream stream) {
  if (p.rows == 0) return device::kNoError;
  return device::launch(device::candidates_kernel,
                        {.name = "candidates",
                         .grid = {static_cast<uint32_t>(p.rows)},
                         .threads = device::kCandidatesThreads,
                         .shared_bytes = sizeof(device::CandidatesShared),
                         .stream = stream},
                        p);
}

}  // namespace himap
