// The register tile on operands that are read where they are: A by strides, B as rows of k or as a packed panel. Sums are the
// same as those of packed operands: one chain per element in the order of k.
#pragma once

#include <utility>

#include "backend/cpu/isa/gemm_pack.h"

namespace mpt::cpu::MPT_ISA {
namespace {

using StridedTile = void (*)(int64_t n, int64_t steps, const char* a, int64_t a_stride, const void* b, int64_t ldb,
                             float* c, int64_t ldc, bool add);

// Few rows take more vectors, so that the multiply-add's latency stays hidden.
constexpr int widest(int rows) { return rows == 1 ? 8 : rows == 2 ? 4 : tile_vectors; }

// A lane of memory that may be aligned to 16 bits only, as pairs are.
typedef float MemoryLane __attribute__((aligned(2), may_alias));
MPT_INLINE Vec broadcast_lane(const char* p) { return splat(*reinterpret_cast<const MemoryLane*>(p)); }

// Rows of A where they are: row i begins a_stride * i bytes from a, its lanes are consecutive.
struct AlongK {
  MPT_INLINE const char* next(const char* a, int64_t) { return a + sizeof(float); }
  MPT_INLINE int64_t row(int64_t i, int64_t a_stride) { return i * a_stride; }
};
// Packed panels, and A transposed: the rows' lanes of one step are consecutive, the next step is a_stride bytes further.
struct AcrossRows {
  MPT_INLINE const char* next(const char* a, int64_t a_stride) { return a + a_stride; }
  MPT_INLINE int64_t row(int64_t i, int64_t) { return i * static_cast<int64_t>(sizeof(float)); }
};

// The body of a tile; a macro since a function of one instruction set can't be inlined into one of another. MULTIPLY_ADD is
// (row, column, sum). With one vector, n <= lanes of B's columns are there to read.
#define MPT_STRIDED_TILE(MULTIPLY_ADD)                                                                              \
  constexpr int group = 3, groups = (Rows + group - 1) / group; /* few pointers: x86 adds one or two strides */     \
  Vec sums[Rows][Vectors];                                                                                          \
  _Pragma("GCC unroll 16") for (int i = 0; i < Rows; ++i) _Pragma("GCC unroll 8") for (int j = 0; j < Vectors; ++j) \
      sums[i][j] = add ? load(c + i * ldc + j * lanes) : zero();                                                    \
  const char* rows[groups];                                                                                         \
  _Pragma("GCC unroll 8") for (int g = 0; g < groups; ++g) rows[g] = a + Order::row(g * group, a_stride);           \
  const auto* column = static_cast<const typename Element::Source*>(b);                                             \
  for (int64_t step = 0; step < steps; ++step, column += ldb) {                                                     \
    Vec columns[Vectors];                                                                                           \
    _Pragma("GCC unroll 8") for (int j = 0; j < Vectors; ++j) columns[j] =                                          \
        Vectors == 1 && n < lanes ? Element::run(column, static_cast<int>(n)) : Element::run(column + j * lanes);   \
    _Pragma("GCC unroll 16") for (int i = 0; i < Rows; ++i) {                                                       \
      const Vec row = broadcast_lane(rows[i / group] + Order::row(i % group, a_stride));                            \
      _Pragma("GCC unroll 8") for (int j = 0; j < Vectors; ++j) sums[i][j] =                                        \
          MULTIPLY_ADD(row, columns[j], sums[i][j]);                                                                \
    }                                                                                                               \
    _Pragma("GCC unroll 8") for (int g = 0; g < groups; ++g) rows[g] = Order::next(rows[g], a_stride);              \
  }                                                                                                                 \
  _Pragma("GCC unroll 16") for (int i = 0; i < Rows; ++i) _Pragma("GCC unroll 8") for (int j = 0; j < Vectors; ++j) \
      store(c + i * ldc + j * lanes, sums[i][j])

template <typename Element, typename Order>
struct StridedF32 {
  using Source = typename Element::Source;
  template <int Rows, int Vectors>
  static void run(int64_t n, int64_t steps, const char* a, int64_t a_stride, const void* b, int64_t ldb, float* c,
                  int64_t ldc, bool add) {
    MPT_STRIDED_TILE(multiply_add);
  }
};

template <typename Tile, typename Rows>
struct StridedTable;

template <typename Tile, int... Rows>
struct StridedTable<Tile, std::integer_sequence<int, Rows...>> {
  static constexpr StridedTile wide[] = {Tile::template run<Rows + 1, widest(Rows + 1)>...};
  static constexpr StridedTile two[] = {Tile::template run<Rows + 1, tile_vectors>...};
  static constexpr StridedTile one[] = {Tile::template run<Rows + 1, 1>...};
};

// See GemmKernel.
template <typename Tile>
void multiply_strided(int64_t m, int64_t n, int64_t steps, const void* a, int64_t a_stride, const void* b, int64_t ldb,
                      float* c, int64_t ldc, bool add) {
  using Table = StridedTable<Tile, std::make_integer_sequence<int, tile_rows>>;
  const auto* left = static_cast<const char*>(a);
  const auto* right = static_cast<const typename Tile::Source*>(b);
  int64_t j = 0;
  for (const int64_t width = widest(static_cast<int>(m)) * lanes; n - j >= width; j += width)
    Table::wide[m - 1](width, steps, left, a_stride, right + j, ldb, c + j, ldc, add);
  for (; n - j >= tile_columns; j += tile_columns)
    Table::two[m - 1](tile_columns, steps, left, a_stride, right + j, ldb, c + j, ldc, add);
  for (; j < n; j += lanes)
    Table::one[m - 1](n - j < lanes ? n - j : lanes, steps, left, a_stride, right + j, ldb, c + j, ldc, add);
}

}  // namespace
}  // namespace mpt::cpu::MPT_ISA
