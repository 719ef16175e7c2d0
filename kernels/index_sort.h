// Positions sorted by the index that stands there, those of equal index in order: a radix sort by 8 bits at a time.
#pragma once

#include "kernels/launch.h"

namespace mpt::cuda {

constexpr int sort_digits = 256, sort_tile = 2048;

// Room for n indices in [0, count): all in device memory.
struct IndexSort {
  const int32_t* indices;
  int32_t n, count;    // count < 2^31 - 1
  uint32_t* keys[2];   // [n] each
  uint32_t* order[2];  // [n] each
  uint32_t* counters;  // [sort_digits * tiles]
  int32_t* starts;     // [count + 1]
};

inline int32_t sort_tiles(int64_t n) { return static_cast<int32_t>((n + sort_tile - 1) / sort_tile); }

struct SortedIndices {
  const uint32_t* keys;   // ascending; indices outside [0, count) are `count`
  const uint32_t* order;  // their positions
  const int32_t* starts;  // index i is at starts[i] .. starts[i + 1] - 1
};

SortedIndices sort_indices(const IndexSort& sort, Stream stream);

}  // namespace mpt::cuda
