// Prints how kernels of tiles are launched, for scripts/ptxas-lint.awk to predict their occupancy: `shape PART THREADS BYTES`,
// where PART is what the mangled name of the kernel has of its tile, and BYTES its shared memory.
#include <cstdio>
#include <string>
#include <typeinfo>
#include <utility>

#include "kernels/linear/linear.cuh"
#include "kernels/linear/sm90_linear.cuh"

namespace himap {
namespace {

template <class Tile>
void print() {
  const std::string name = typeid(Tile).name(), scope = "N5himap6device";
  // A kernel's name has the tile without its scope, whose end is the last letter.
  const std::string part = name.substr(scope.size(), name.size() - scope.size() - 1);
  std::printf("shape %s %d %zu\n", part.c_str(), Tile::kThreads, sizeof(typename Tile::Shared));
}

template <class T, int32_t... kIndex>
void print_sm90(std::integer_sequence<int32_t, kIndex...>) {
  (print<device::Sm90LinearTile<T, kSm90LinearTiles[kIndex].warpgroups, kSm90LinearTiles[kIndex].rows,
                                kSm90LinearTiles[kIndex].blocks>>(),
   ...);
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
}

}  // namespace
}  // namespace himap

int main() {
  himap::print_type<himap::Bf16>();
  himap::print_type<himap::F16>();
}
