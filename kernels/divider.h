// Division of 31-bit numbers by one that stays the same: a multiplication and a shift instead of some twenty instructions.
// (Granlund and Montgomery 1994.)
#pragma once

#include "kernels/launch.h"

namespace mpt::cuda {

struct Divider {
  uint32_t divisor = 1, factor = 1, shift = 0;

  Divider() = default;
  // 1 <= d < 2^31
  explicit Divider(uint32_t d) : divisor(d) {
    while (shift < 32 && (uint64_t{1} << shift) < d) ++shift;
    factor = static_cast<uint32_t>(((uint64_t{1} << 32) * ((uint64_t{1} << shift) - d)) / d + 1);
  }

  // n < 2^31. Sets n to the quotient and returns the remainder.
  __device__ __forceinline__ uint32_t divide(uint32_t& n) const {
    const uint32_t quotient = (static_cast<uint32_t>(uint64_t{n} * factor >> 32) + n) >> shift;
    const uint32_t rest = n - quotient * divisor;
    n = quotient;
    return rest;
  }
};

}  // namespace mpt::cuda
