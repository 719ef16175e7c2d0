#include "backend/cpu/isa/rows.h"

#include <cstring>

#include "backend/cpu/isa/convert.h"

namespace mpt::cpu::MPT_ISA {
namespace {

constexpr int64_t lanes = 64;  // sums formed side by side
constexpr int64_t block = 16 * lanes;
constexpr int64_t group = 16;  // rows of columns added one after another

MPT_HD float larger(float a, float b) { return ((b > a) | (b != b)) ? b : a; }

template <Combine combine>
MPT_HD float combined(float a, float b) {
  return combine == Combine::sum ? a + b : larger(a, b);
}

template <Combine combine>
MPT_HD float neutral() {
  return combine == Combine::sum ? 0.0f : -__builtin_inff();
}

template <Combine combine>
MPT_HD void combine_into(const float* from, int64_t n, float* to) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] = combined<combine>(to[i], from[i]);
}

// Combines the two halves until one element is left.
template <Combine combine, int64_t width>
MPT_HD float reduce_tree(float* x) {
  if constexpr (width == 1) {
    return x[0];
  } else {
    combine_into<combine>(x + width / 2, width / 2, x);
    return reduce_tree<combine, width / 2>(x);
  }
}

// n <= block elements, with room for neutral ones up to the next multiple of `lanes`, which are set here.
template <Combine combine>
MPT_HD float reduce_block(float* x, int64_t n) {
  constexpr int64_t few = 16;
  const int64_t filled = n <= few ? few : (n + lanes - 1) / lanes * lanes;
  for (int64_t i = n; i < filled; ++i) x[i] = neutral<combine>();
  if (n <= few) return reduce_tree<combine, few>(x);
  for (int64_t at = lanes; at < n; at += lanes) combine_into<combine>(x + at, lanes, x);
  return reduce_tree<combine, lanes>(x);
}

template <Combine combine>
float reduce(const RowIn& from, int64_t n) {
  alignas(64) float wide[block];
  // pending[k] is the sum of 2^k blocks, there where bit k of `blocks` is set.
  float pending[64];
  uint64_t blocks = 0;
  for (int64_t done = 0; done < n; done += block) {
    const int64_t count = n - done < block ? n - done : block;
    widen(from.type, from.data, from.first + done, count, wide);
    float sum = reduce_block<combine>(wide, count);
    int k = 0;
    for (; blocks >> k & 1; ++k) sum = combined<combine>(pending[k], sum);
    pending[k] = sum;
    ++blocks;
  }
  int k = 0;
  while ((blocks >> k & 1) == 0) ++k;
  float sum = pending[k];
  for (++k; blocks >> k != 0; ++k)
    if (blocks >> k & 1) sum = combined<combine>(pending[k], sum);
  return sum;
}

// An FP32 row is read where it lies.
const float* wide_row(const RowIn& from, int64_t skip, int64_t n, float* memory) {
  if (from.type == Element::f32) return static_cast<const float*>(from.data) + from.first + skip;
  widen(from.type, from.data, from.first + skip, n, memory);
  return memory;
}

template <Combine combine>
void reduce_all_columns(const RowIn& from, int64_t stride, int64_t rows, int64_t columns, float* sums) {
  alignas(64) float wide[row_block], part[row_block];
  for (int64_t begin = 0; begin < rows; begin += group) {
    const int64_t end = rows - begin < group ? rows : begin + group;
    float* to = begin == 0 ? sums : part;
    widen(from.type, from.data, from.first + begin * stride, columns, to);
    for (int64_t r = begin + 1; r < end; ++r)
      combine_into<combine>(wide_row(from, r * stride, columns, wide), columns, to);
    if (begin > 0) combine_into<combine>(part, columns, sums);
  }
}

template <Combine combine>
void combine_one_row(const RowIn& from, int64_t n, float* sums) {
  alignas(64) float wide[row_block];
  for (int64_t done = 0; done < n; done += row_block) {
    const int64_t count = n - done < row_block ? n - done : row_block;
    combine_into<combine>(wide_row(from, done, count, wide), count, sums + done);
  }
}

}  // namespace

void convert_row(const RowIn& from, int64_t n, const RowOut& to) {
  if (from.type == to.type) {
    const int64_t size = from.type == Element::f32 ? 4 : 2;
    std::memcpy(static_cast<char*>(to.data) + to.first * size, static_cast<const char*>(from.data) + from.first * size,
                static_cast<std::size_t>(n * size));
    return;
  }
  alignas(64) float wide[row_block];
  for (int64_t done = 0; done < n; done += row_block) {
    const int64_t count = n - done < row_block ? n - done : row_block;
    narrow(to.type, wide_row(from, done, count, wide), count, to.data, to.first + done);
  }
}

void combine_row(Combine combine, const RowIn& from, int64_t n, bool begin, float* sums) {
  if (begin) return widen(from.type, from.data, from.first, n, sums);
  combine == Combine::sum ? combine_one_row<Combine::sum>(from, n, sums) : combine_one_row<Combine::max>(from, n, sums);
}

float reduce_row(Combine combine, const RowIn& from, int64_t n) {
  return combine == Combine::sum ? reduce<Combine::sum>(from, n) : reduce<Combine::max>(from, n);
}

void reduce_columns(Combine combine, const RowIn& from, int64_t stride, int64_t rows, int64_t columns, float* sums) {
  combine == Combine::sum ? reduce_all_columns<Combine::sum>(from, stride, rows, columns, sums)
                          : reduce_all_columns<Combine::max>(from, stride, rows, columns, sums);
}

}  // namespace mpt::cpu::MPT_ISA
