// Division of indices by numbers that are known before the launch: a multiplication where 32 bits do.
#pragma once

#include "kernels/launch.h"

// Of a struct that a kernel takes by value and indexes at run time: read where the launch put it, never copied.
#if defined(__CUDACC__)
#define MPT_GRID_CONSTANT __grid_constant__
#else
#define MPT_GRID_CONSTANT
#endif

namespace mpt::cuda {

struct Divisor {
  int64_t value = 1;
  uint32_t factor = 1, shift = 0;  // for dividends below 2^31

  Divisor() = default;
  explicit Divisor(int64_t divisor) : value(divisor) {
    if (divisor >> 31 != 0) return;  // never used by the 32-bit division
    while (int64_t{1} << shift < divisor) ++shift;
    // n / d = n (2^32 + factor) / 2^(32 + shift), rounded down: Granlund and Montgomery 1994.
    const uint64_t numerator = ((uint64_t{1} << shift) - static_cast<uint64_t>(divisor)) << 32;
    factor = static_cast<uint32_t>(numerator / static_cast<uint64_t>(divisor) + 1);
  }
};

// n / d where n and d are below 2^31.
__device__ __forceinline__ uint32_t quotient(uint32_t n, const Divisor& d) {
#if defined(__CUDA_ARCH__)
  const uint32_t high = __umulhi(n, d.factor);
#else
  const auto high = static_cast<uint32_t>(static_cast<uint64_t>(n) * d.factor >> 32);
#endif
  return (high + n) >> d.shift;
}
__device__ __forceinline__ int64_t quotient(int64_t n, const Divisor& d) { return n / d.value; }

}  // namespace mpt::cuda
