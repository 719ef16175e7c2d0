// How a matrix multiply is cut into tasks and blocks.
#pragma once

#include <cstdint>

#include "backend/cpu/isa/gemm_kernels.h"

namespace mpt::cpu {

// All in elements. A tile is what one task computes: tile_m x tile_n sums over tile_k. Where k is cut into several tiles the
// sums are partial and added afterwards, in order.
struct GemmBlocking {
  int64_t tile_m = 0, tile_n = 0, tile_k = 0;
  int64_t chunk_k = 0;  // of k that is packed and multiplied at a time
  int64_t slab_n = 0;   // columns of B that are packed once for all tasks, slab after slab; 0: every task packs its own
  int64_t tiles_m = 0, tiles_n = 0, tiles_k = 0;  // tiles_n: in one slab
  int64_t slabs = 1;
};

// b_repeats: all batch items have the same B, so that a slab of it can serve them all. a_in_place: A is not packed.
GemmBlocking choose_blocking(int64_t batch, int64_t m, int64_t n, int64_t k, bool b_repeats, bool a_in_place,
                             const GemmKernel& kernel);

// For few rows, and B read where it is.
GemmBlocking blocking_of_few_rows(int64_t batch, int64_t m, int64_t n, int64_t k, const GemmKernel& kernel);

// Lanes along n that a block of B takes once packed.
inline int64_t packed_columns(int64_t n, const GemmKernel& kernel) {
  const int64_t half = kernel.columns / 2;
  return (n + half - 1) / half * half;
}

}  // namespace mpt::cpu
