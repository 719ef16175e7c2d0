// The sums of the gradients that flow back to picked rows: dy is [outer, picks, inner], dx [outer, count, inner]. Rows are added
// in FP32 in the order of the picks, in chunks of 32 where there are more, and rounded once.
#pragma once

#include "kernels/element.h"
#include "kernels/index_sort.h"

namespace mpt::cuda {

constexpr int gather_chunk = 32;
// Rows of partial sums: a row of dx with more than a chunk of picks, which begin at s in sorted order, has its own from
// s / 16 on, one per chunk. These are fewer than its picks / 16, so that no other row's begin before they end.
inline int64_t gather_partial_rows(int64_t picks) { return picks / (gather_chunk / 2) + 1; }

struct GatherGradArgs {
  const void* dy;
  void* dx;
  int64_t outer, count, picks, inner;
  Element dy_type, dx_type;
  bool vector;  // inner is a multiple of 8 and the pointers of 16 bytes
  SortedIndices sorted;
  float* partials;  // [gather_partial_rows(picks), outer, inner]
};

void gather_grad(const GatherGradArgs& args, Stream stream);

}  // namespace mpt::cuda
