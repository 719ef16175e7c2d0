// What kernels that work row by row share: blocks of a row widened to FP32 in cache, and sums in a fixed order. Included by
// the files of this folder only.
#pragma once

#include <cstdint>
#include <limits>

#include "backend/cpu/isa/convert.h"
#include "kernels/numerics/math.h"

namespace mpt::cpu::MPT_ISA {
namespace {

constexpr int64_t row_block = 1024;  // elements of a row that are converted at a time
constexpr float infinity = std::numeric_limits<float>::infinity();

// a * b + c, with one rounding where the level has the instruction.
MPT_HD float multiply_add(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

// Elements [first, first + n) in FP32: where they lie, or widened into `buffer`.
MPT_HD const float* read_block(Element type, const void* from, int64_t first, int64_t n, float* buffer) {
  if (type == Element::f32) return static_cast<const float*>(from) + first;
  widen(type, from, first, n, buffer);
  return buffer;
}

// Where results for elements from `first` go: their place, or `buffer`, from which finish_block rounds them.
MPT_HD float* write_block(Element type, void* to, int64_t first, float* buffer) {
  return type == Element::f32 ? static_cast<float*>(to) + first : buffer;
}
MPT_HD void finish_block(Element type, const float* block, int64_t n, void* to, int64_t first) {
  if (type != Element::f32) narrow(type, block, n, to, first);
}

// Four vectors of partial sums, enough for the additions to follow each other without waiting; the order is part of the
// level.
constexpr int sum_lanes = 64;

struct PartialSums {
  float lane[sum_lanes];
};

MPT_HD float total(const PartialSums& sums) {
  constexpr int quarter = sum_lanes / 4;
  const float* lane = sums.lane;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < quarter; ++i)
    sum += (lane[i] + lane[i + 2 * quarter]) + (lane[i + quarter] + lane[i + 3 * quarter]);
  return sum;
}

// Adds f(i) for i in [0, n) to the total.
template <typename F>
MPT_HD float sum_of(int64_t n, F f) {
  PartialSums sums = {};
  int64_t i = 0;
  for (; i + sum_lanes <= n; i += sum_lanes) {
#pragma omp simd
    for (int j = 0; j < sum_lanes; ++j) sums.lane[j] += f(i + j);
  }
  const int64_t rest = n - i;
#pragma omp simd
  for (int64_t j = 0; j < rest; ++j) sums.lane[j] += f(i + j);
  return total(sums);
}

// The largest of `start` and x[i]; NaN is passed over.
MPT_HD float max_of(const float* x, int64_t n, float start) {
  PartialSums top;
  for (int j = 0; j < sum_lanes; ++j) top.lane[j] = start;
  int64_t i = 0;
  for (; i + sum_lanes <= n; i += sum_lanes) {
#pragma omp simd
    for (int j = 0; j < sum_lanes; ++j) top.lane[j] = x[i + j] > top.lane[j] ? x[i + j] : top.lane[j];
  }
  const int64_t rest = n - i;
#pragma omp simd
  for (int64_t j = 0; j < rest; ++j) top.lane[j] = x[i + j] > top.lane[j] ? x[i + j] : top.lane[j];
  float largest = start;
#pragma omp simd reduction(max : largest)
  for (int j = 0; j < sum_lanes; ++j) largest = top.lane[j] > largest ? top.lane[j] : largest;
  return largest;
}

// f(begin, count) for the blocks of a row.
template <typename F>
MPT_HD void for_blocks(int64_t n, F f) {
  for (int64_t begin = 0; begin < n; begin += row_block) f(begin, n - begin < row_block ? n - begin : row_block);
}

}  // namespace
}  // namespace mpt::cpu::MPT_ISA
