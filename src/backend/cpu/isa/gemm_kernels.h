// The instruction-set dependent half of the matrix multiply: packing of operands into panels and the register-tile kernel.
// Plain C types only: every build of src/backend/cpu/isa/ includes it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mpt::cpu {

enum class GemmElement { f32, f16, bf16 };

// One operand as stored: the element type, and whether the sum's index k is the slow one.
// A: not transposed is [m][k], transposed [k][m]. B: not transposed is [k][n], transposed [n][k].
struct GemmOperand {
  GemmElement element;
  bool transposed;
};

// c[m][n] (+)= A B like GemmKernel::multiply (m <= rows), with operands where they are. B: rows of k, ldb elements apart; of a
// packed panel, its width. Whole lanes of B's columns are read where n leaves room for them, else no element beyond n.
using GemmMultiplyStrided = void (*)(int64_t m, int64_t n, int64_t steps, const void* a, int64_t a_stride,
                                     const void* b, int64_t ldb, float* c, int64_t ldc, bool add);

// c[i c_long + j c_few] (+)= the dot product of row i of s and row j of t, both of k elements.
using GemmDot = void (*)(int64_t n_long, int64_t n_few, int64_t k, const void* s, int64_t lds, const void* t,
                         int64_t ldt, float* c, int64_t c_long, int64_t c_few, bool add);

// A packed panel holds, for each step of k, one 32-bit lane per row (A) or column (B): an FP32 number, or a pair of BF16
// numbers of which k_unit = 2 consecutive k make one lane (the last padded with zero).
struct GemmKernel {
  int rows;       // of a register tile
  int row_lanes;  // lanes of an A panel, of which `rows` are used
  int columns;  // of a register tile and lanes of a B panel; the last panel of a block has columns / 2 where that is enough
  int k_unit;  // values of k in one lane

  // Packs A's rows [0, m) over [0, k) into consecutive panels.
  void (*pack_a)(const void* a, int64_t ld, int64_t m, int64_t k, void* panels);
  // Packs B's columns [0, n) over [0, k) into consecutive panels.
  void (*pack_b)(const void* b, int64_t ld, int64_t n, int64_t k, void* panels);
  // c[m][n] (+)= the product of one A panel (m <= rows) and consecutive B panels, summed in the order of k by one chain per
  // element. `steps` counts lanes along k. Writes whole lanes: c's rows have room for n rounded up to columns / 2.
  void (*multiply)(int64_t m, int64_t n, int64_t steps, const void* a, const void* b, float* c, int64_t ldc, bool add);
  // With A's rows where they are, a_stride bytes apart, and packed B (FP32 lanes: or rows of B). Null where A has to be
  // widened or transposed.
  GemmMultiplyStrided multiply_rows;
  // With A's steps a_stride bytes apart (a packed panel, or FP32 A transposed), and B's rows where they are, of any type.
  // Null for pairs.
  GemmMultiplyStrided multiply_across;
};

// Stores n sums at c, an array of the type it was chosen for, each rounded once; add: with what is there added in FP32.
using GemmStore = void (*)(const float* sums, int64_t n, void* c, bool add);

// FP32 arithmetic, 16-bit operands widened while packing. Always there.
namespace portable {
GemmKernel gemm_kernel(GemmOperand a, GemmOperand b);
GemmMultiplyStrided gemm_multiply_rows();
GemmMultiplyStrided gemm_multiply_across(GemmElement b);
GemmDot gemm_dot(GemmElement long_rows, GemmElement few_rows);
GemmStore gemm_store(GemmElement type);
}  // namespace portable
namespace avx2 {
GemmKernel gemm_kernel(GemmOperand a, GemmOperand b);
GemmMultiplyStrided gemm_multiply_rows();
GemmMultiplyStrided gemm_multiply_across(GemmElement b);
GemmDot gemm_dot(GemmElement long_rows, GemmElement few_rows);
GemmStore gemm_store(GemmElement type);
}  // namespace avx2
namespace avx512 {
GemmKernel gemm_kernel(GemmOperand a, GemmOperand b);
GemmMultiplyStrided gemm_multiply_rows();
GemmMultiplyStrided gemm_multiply_across(GemmElement b);
GemmDot gemm_dot(GemmElement long_rows, GemmElement few_rows);
GemmStore gemm_store(GemmElement type);
// Both operands BF16, multiplied by the native instruction; for machines with AVX512_BF16.
GemmKernel gemm_kernel_bf16(bool transposed_a, bool transposed_b);
}  // namespace avx512

}  // namespace mpt::cpu
