// Types that every operation's parameters share, for host and device. Plain data only: these structs cross the C line
// between the engine and a backend's library.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define HIMAP_HOST_DEVICE __host__ __device__
#else
#define HIMAP_HOST_DEVICE
#endif

namespace himap {

/** Storage type of weights and KV. A block size stands beside it so that blocked types can join. */
enum class DType : int32_t { kF32 = 0, kF16 = 1, kBF16 = 2 };

/** Bytes of `elements` elements; a whole number of blocks of one element for the types there are. */
constexpr int64_t dtype_bytes(DType type, int64_t elements) { return elements * (type == DType::kF32 ? 4 : 2); }

/**
 * Chooses the kernel family, never the number of rows: a row's arithmetic is the same alone and among others.
 * Prefill streams many rows past each weight tile; decode streams the weights past few rows.
 */
enum class Phase : int32_t { kPrefill = 0, kDecode = 1 };

// What a row may vote as in column sums, one bit each. A row keeps its bits through every compaction.
constexpr uint8_t kVotesInstruction = 1;  // every row after the last image
constexpr uint8_t kVotesImage = 2;        // image rows
constexpr uint8_t kVotesLast = 4;         // the last row of the prompt
constexpr uint8_t kVotesPrefix = 8;       // every other row
constexpr uint8_t kVotesAll = kVotesInstruction | kVotesImage | kVotesPrefix;

/** A weight matrix as the backend holds it; made by BackendApi::weight_import. */
struct Weight;

}  // namespace himap
