// The matrix multiply's register tile in FP32, and the packing of every operand type for it.
#include "backend/cpu/isa/gemm_kernels.h"
#include "backend/cpu/isa/gemm_pack.h"
#include "backend/cpu/isa/gemm_tiles.h"

namespace mpt::cpu::MPT_ISA {
namespace {

struct TileF32 {
  template <int Rows, int Vectors>
  static void run(int64_t steps, const float* a, const float* b, float* c, int64_t ldc, bool add) {
    Vec sums[Rows][Vectors];
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < Vectors; ++j) sums[i][j] = add ? load(c + i * ldc + j * lanes) : zero();
    for (int64_t step = 0; step < steps; ++step) {
      Vec column[Vectors];
#pragma GCC unroll 2
      for (int j = 0; j < Vectors; ++j) column[j] = load(b + j * lanes);
#pragma GCC unroll 16
      for (int i = 0; i < Rows; ++i) {
        const Vec row = broadcast(a + i);
#pragma GCC unroll 2
        for (int j = 0; j < Vectors; ++j) sums[i][j] = multiply_add(row, column[j], sums[i][j]);
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

using PackA = decltype(GemmKernel::pack_a);
using PackB = decltype(GemmKernel::pack_b);

template <bool Transposed>
PackA choose_pack_a(GemmElement element) {
  switch (element) {
    case GemmElement::f16:
      return pack_a<ElementF16, Transposed>;
    case GemmElement::bf16:
      return pack_a<ElementBF16, Transposed>;
    default:
      return pack_a<ElementF32, Transposed>;
  }
}

template <bool Transposed>
PackB choose_pack_b(GemmElement element) {
  switch (element) {
    case GemmElement::f16:
      return pack_b<ElementF16, Transposed>;
    case GemmElement::bf16:
      return pack_b<ElementBF16, Transposed>;
    default:
      return pack_b<ElementF32, Transposed>;
  }
}

}  // namespace

GemmKernel gemm_kernel(GemmOperand a, GemmOperand b) {
  return {tile_rows,
          lanes,
          tile_columns,
          1,
          a.transposed ? choose_pack_a<true>(a.element) : choose_pack_a<false>(a.element),
          b.transposed ? choose_pack_b<true>(b.element) : choose_pack_b<false>(b.element),
          multiply<TileF32>,
          a.element == GemmElement::f32 && !a.transposed ? gemm_multiply_rows() : nullptr,
          gemm_multiply_across(b.element)};
}

}  // namespace mpt::cpu::MPT_ISA
