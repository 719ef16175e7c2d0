// From the register tile of one arithmetic to the product of one A panel and a row of B panels.
#pragma once

#include <utility>

#include "backend/cpu/isa/gemm_simd.h"

namespace mpt::cpu::MPT_ISA {
namespace {

using TileFunction = void (*)(int64_t steps, const float* a, const float* b, float* c, int64_t ldc, bool add);

template <typename Tile, int Vectors, typename Rows>
struct TileTable;

template <typename Tile, int Vectors, int... Rows>
struct TileTable<Tile, Vectors, std::integer_sequence<int, Rows...>> {
  static constexpr TileFunction by_rows[] = {Tile::template run<Rows + 1, Vectors>...};
};

// Tile::run<Rows, Vectors> computes Rows x Vectors * lanes sums.
template <typename Tile>
void multiply(int64_t m, int64_t n, int64_t steps, const void* a, const void* b, float* c, int64_t ldc, bool add) {
  using AllRows = std::make_integer_sequence<int, tile_rows>;
  const auto* panel_a = static_cast<const float*>(a);
  const auto* panel_b = static_cast<const float*>(b);
  const TileFunction whole = TileTable<Tile, tile_vectors, AllRows>::by_rows[m - 1];
  int64_t column = 0;
  for (; n - column > lanes; column += tile_columns) {
    whole(steps, panel_a, panel_b, c + column, ldc, add);
    panel_b += steps * tile_columns;
  }
  if (column < n) TileTable<Tile, 1, AllRows>::by_rows[m - 1](steps, panel_a, panel_b, c + column, ldc, add);
}

}  // namespace
}  // namespace mpt::cpu::MPT_ISA
