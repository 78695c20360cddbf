// Prints how every kernel is launched, for scripts/ptxas-lint.awk to predict its occupancy: `shape THREADS BYTES NAME`, where
// NAME is what a kernel's demangled name has of its tile, or the kernel's own, and BYTES its shared memory.
#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <typeinfo>
#include <utility>

#include "kernels/attention_decode/attention_decode.cuh"
#include "kernels/attention_decode/launch_attention_decode.h"
#include "kernels/attention_prefill/attention_prefill.cuh"
#include "kernels/attention_prefill/launch_attention_prefill.h"
#include "kernels/candidates/candidates.cuh"
#include "kernels/embed/embed.cuh"
#include "kernels/gather/gather.cuh"
#include "kernels/linear/linear.cuh"
#include "kernels/linear/sm90_linear.cuh"
#include "kernels/norm/norm.cuh"
#include "kernels/patch_embed/patch_embed.cuh"
#include "kernels/rope_kv/rope_kv.cuh"
#include "kernels/select/select.cuh"

namespace himap {
namespace {

/** Image tokens of LLaVA-1.5: what `select` ranks at the first cut; its shared memory grows with them. */
constexpr int32_t kAlive = 576;

void print(const char* name, int32_t threads, size_t shared_bytes) { std::printf("shape %d %zu %s\n", threads, shared_bytes, name); }

template <class Tile>
void print() {
  int status = 0;
  char* const name = abi::__cxa_demangle(typeid(Tile).name(), nullptr, nullptr, &status);
  if (status != 0) std::abort();
  print(name, Tile::kThreads, sizeof(typename Tile::Shared));
  std::free(name);
}

template <class T, int32_t... kIndex>
void print_sm90(std::integer_sequence<int32_t, kIndex...>) {
  (print<device::Sm90LinearTile<T, kSm90LinearTiles[kIndex].warpgroups, kSm90LinearTiles[kIndex].rows,
                                kSm90LinearTiles[kIndex].blocks>>(),
   ...);
}

template <class T, class P>
void print_attention_decode() {
  print<device::DecodeTile<T, P, 4>>();
  print<device::DecodeTile<T, P, 8>>();
  print<device::DecodeTile<T, P, 16>>();
  print<device::DecodeTile<T, P, kDecodeHeadDimMost / device::kChunk>>();
}

template <class T, bool kSums>
void print_attention_prefill() {
  print<device::PrefillTile<T, 32, kSums>>();
  print<device::PrefillTile<T, 64, kSums>>();
  print<device::PrefillTile<T, kPrefillHeadDimMost, kSums>>();
}

template <class T>
void print_type() {
  print<device::LinearPrefillWideTile<T>>();
  print<device::LinearPrefillTile<T, true>>();
  print<device::LinearPrefillTile<T, false>>();
  print<device::LinearDecode8Tile<T>>();
  print<device::LinearDecode32Tile<T, true>>();
  print<device::LinearDecode32Tile<T, false>>();
  print<device::LinearDecode128Tile<T>>();
  print_sm90<T>(std::make_integer_sequence<int32_t, kSm90LinearTileCount>());
  print_attention_prefill<T, true>();
  print_attention_prefill<T, false>();
  print_attention_decode<T, float>();
  print_attention_decode<T, Bf16>();
  print_attention_decode<T, F16>();
}

}  // namespace
}  // namespace himap

int main() {
  using namespace himap;
  print_type<Bf16>();
  print_type<F16>();
  print("himap::device::candidates_kernel", device::kCandidatesThreads, sizeof(device::CandidatesShared));
  print("himap::device::embed_kernel", device::kEmbedThreads, 0);
  print("himap::device::gather_kernel", device::kGatherThreads, 0);
  print("himap::device::norm_kernel", device::kNormThreads, sizeof(device::BlockShared));
  print("himap::device::patch_positions_kernel", device::kPatchThreads, 0);
  print("himap::device::patch_rows_kernel", device::kPatchThreads, 0);
  print("himap::device::repack_kernel", device::kRepackThreads, 0);
  print("himap::device::rope_kv_kernel", device::kRopeThreads, 0);
  print("himap::device::select_kernel", device::kSelectThreads, device::select_shared_bytes(kAlive));
}
