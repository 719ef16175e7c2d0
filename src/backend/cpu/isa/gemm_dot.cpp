// Products with few rows or few columns whose operands both lie along k: dot products of rows, read where they are.
#include "backend/cpu/isa/gemm_kernels.h"
#include "backend/cpu/isa/gemm_pack.h"

namespace mpt::cpu::MPT_ISA {
namespace {

constexpr int dot_long = 4;  // rows of the long operand in a register tile
#if defined(__AVX512F__)
constexpr int dot_few = 4;
#else
constexpr int dot_few = 2;
#endif

// Sums of products: one chain per lane, the lanes added in a fixed order.
template <typename Long, typename Few, int I, int J>
void dot_tile(int64_t k, const void* s, int64_t lds, const void* t, int64_t ldt, float* c, int64_t c_long,
              int64_t c_few, bool add) {
  const auto* longs = static_cast<const typename Long::Source*>(s);
  const auto* fews = static_cast<const typename Few::Source*>(t);
  Vec sums[I][J];
#pragma GCC unroll 4
  for (int i = 0; i < I; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < J; ++j) sums[i][j] = zero();
  int64_t p = 0;
  for (; p + lanes <= k; p += lanes) {
    Vec row[I];
#pragma GCC unroll 4
    for (int i = 0; i < I; ++i) row[i] = Long::run(longs + i * lds + p);
#pragma GCC unroll 4
    for (int j = 0; j < J; ++j) {
      const Vec other = Few::run(fews + j * ldt + p);
#pragma GCC unroll 4
      for (int i = 0; i < I; ++i) sums[i][j] = multiply_add(row[i], other, sums[i][j]);
    }
  }
  if (p < k) {
    const int rest = static_cast<int>(k - p);
#pragma GCC unroll 4
    for (int j = 0; j < J; ++j) {
      const Vec other = Few::run(fews + j * ldt + p, rest);
#pragma GCC unroll 4
      for (int i = 0; i < I; ++i) sums[i][j] = multiply_add(Long::run(longs + i * lds + p, rest), other, sums[i][j]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < I; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < J; ++j) {
      float* out = c + i * c_long + j * c_few;
      const float sum = sum_of_lanes(sums[i][j]);
      *out = add ? *out + sum : sum;
    }
}

template <typename Long, typename Few, int J>
void dot_column(int64_t n_long, int64_t k, const void* s, int64_t lds, const void* t, int64_t ldt, float* c,
                int64_t c_long, int64_t c_few, bool add) {
  const auto* longs = static_cast<const typename Long::Source*>(s);
  int64_t i = 0;
  for (; i + dot_long <= n_long; i += dot_long)
    dot_tile<Long, Few, dot_long, J>(k, longs + i * lds, lds, t, ldt, c + i * c_long, c_long, c_few, add);
  for (; i < n_long; ++i)
    dot_tile<Long, Few, 1, J>(k, longs + i * lds, lds, t, ldt, c + i * c_long, c_long, c_few, add);
}

template <typename Long, typename Few>
void dot(int64_t n_long, int64_t n_few, int64_t k, const void* s, int64_t lds, const void* t, int64_t ldt, float* c,
         int64_t c_long, int64_t c_few, bool add) {
  const auto* longs = static_cast<const typename Long::Source*>(s);
  const auto* fews = static_cast<const typename Few::Source*>(t);
  // A group of the long operand's rows meets all of the few while it is in the first-level cache.
  for (int64_t i = 0; i < n_long; i += dot_long) {
    const int64_t rows = n_long - i < dot_long ? n_long - i : dot_long;
    const auto* row = longs + i * lds;
    float* out = c + i * c_long;
    int64_t j = 0;
    for (; j + dot_few <= n_few; j += dot_few)
      dot_column<Long, Few, dot_few>(rows, k, row, lds, fews + j * ldt, ldt, out + j * c_few, c_long, c_few, add);
    for (; j < n_few; ++j)
      dot_column<Long, Few, 1>(rows, k, row, lds, fews + j * ldt, ldt, out + j * c_few, c_long, c_few, add);
  }
}

template <typename Long>
GemmDot choose(GemmElement few) {
  switch (few) {
    case GemmElement::f16:
      return dot<Long, ElementF16>;
    case GemmElement::bf16:
      return dot<Long, ElementBF16>;
    default:
      return dot<Long, ElementF32>;
  }
}

}  // namespace

GemmDot gemm_dot(GemmElement long_rows, GemmElement few_rows) {
  switch (long_rows) {
    case GemmElement::f16:
      return choose<ElementF16>(few_rows);
    case GemmElement::bf16:
      return choose<ElementBF16>(few_rows);
    default:
      return choose<ElementF32>(few_rows);
  }
}

}  // namespace mpt::cpu::MPT_ISA
