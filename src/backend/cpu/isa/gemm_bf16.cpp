// The matrix multiply's register tile with the native BF16 instruction: a lane holds two consecutive k. In the AVX-512 build
// only; the caller asks the machine for AVX512_BF16 before it calls what this hands out.
#include "backend/cpu/isa/gemm_kernels.h"

#if defined(__AVX512F__)

#include "backend/cpu/isa/gemm_pack.h"
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

}  // namespace

GemmKernel gemm_kernel_bf16(bool transposed_a, bool transposed_b) {
  return {tile_rows,
          lanes,
          tile_columns,
          2,
          transposed_a ? pack_a<ElementPair, true> : pack_a<ElementPair, false>,
          transposed_b ? pack_b<ElementPair, true> : pack_b<ElementPair, false>,
          multiply<TileBF16>};
}

}  // namespace mpt::cpu::MPT_ISA

#endif
