// The matrix multiply's register tile with the native BF16 instruction: a lane holds two consecutive k. In the AVX-512 build
// only; the caller asks the machine for AVX512_BF16 before it calls what this hands out.
#include "backend/cpu/isa/gemm_kernels.h"

#if defined(__AVX512F__)

#include "backend/cpu/isa/gemm_strided.h"
#include "backend/cpu/isa/gemm_tiles.h"

namespace mpt::cpu::MPT_ISA {
namespace {

struct TileBF16 {
  template <int Rows, int Vectors>
  __attribute__((target("avx512bf16"))) static void run(int64_t steps, const float* a, const float* b, float* c,
                                                        int64_t ldc, bool add) {
    Vec sums[Rows][Vectors];
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < Vectors; ++j) sums[i][j] = add ? load(c + i * ldc + j * lanes) : zero();
    for (int64_t step = 0; step < steps; ++step) {
      __m512bh column[Vectors];
#pragma GCC unroll 2
      for (int j = 0; j < Vectors; ++j) column[j] = (__m512bh)load(b + j * lanes);
#pragma GCC unroll 16
      for (int i = 0; i < Rows; ++i) {
        const __m512bh row = (__m512bh)broadcast(a + i);
#pragma GCC unroll 2
        for (int j = 0; j < Vectors; ++j) sums[i][j] = _mm512_dpbf16_ps(sums[i][j], row, column[j]);
      }
      a += lanes;
      b += Vectors * lanes;
    }
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < Vectors; ++j) store(c + i * ldc + j * lanes, sums[i][j]);
  }
};

__attribute__((target("avx512bf16"), always_inline)) inline Vec multiply_add_pairs(Vec row, Vec column, Vec sum) {
  return _mm512_dpbf16_ps(sum, (__m512bh)row, (__m512bh)column);
}

// A's rows where they are: a pair is two consecutive elements of k.
struct StridedPairs {
  using Element = ElementF32;  // B's panels: lanes
  using Source = float;
  using Order = AlongK;
  template <int Rows, int Vectors>
  __attribute__((target("avx512bf16"))) static void run(int64_t n, int64_t steps, const char* a, int64_t a_stride,
                                                        const void* b, int64_t ldb, float* c, int64_t ldc, bool add) {
    MPT_STRIDED_TILE(multiply_add_pairs);
  }
};

}  // namespace

GemmKernel gemm_kernel_bf16(bool transposed_a, bool transposed_b) {
  return {tile_rows,
          lanes,
          tile_columns,
          2,
          transposed_a ? pack_a<ElementPair, true> : pack_a<ElementPair, false>,
          transposed_b ? pack_b<ElementPair, true> : pack_b<ElementPair, false>,
          multiply<TileBF16>,
          transposed_a ? nullptr : multiply_strided<StridedPairs>,
          nullptr};
}

}  // namespace mpt::cpu::MPT_ISA

#endif
