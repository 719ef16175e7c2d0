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

// Four vectors of partial sums, enough for the additions to follow each other without waiting; the order is part of the
// level.
constexpr int sum_lanes = 64;

struct PartialSums {
  float lane[sum_lanes];
};

MPT_HD float total(const PartialSums& sums) {
  float rest[sum_lanes / 2];
#pragma omp simd
  for (int i = 0; i < sum_lanes / 2; ++i) rest[i] = sums.lane[i] + sums.lane[i + sum_lanes / 2];
  for (int count = sum_lanes / 4; count > 0; count /= 2)
    for (int i = 0; i < count; ++i) rest[i] += rest[i + count];
  return rest[0];
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
  for (int j = 0; i + j < n; ++j) sums.lane[j] += f(i + j);
  return total(sums);
}

}  // namespace
}  // namespace mpt::cpu::MPT_ISA
