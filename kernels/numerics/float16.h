// IEEE binary16 and bfloat16: rounding to nearest even, subnormals kept, overflow to infinity, NaN kept and made quiet.
// The same bits as the F16C instructions give. (A GPU's instructions give one NaN for all.)
#pragma once

#include "kernels/numerics/qualifiers.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace mpt {

MPT_HD float f16_to_f32(uint16_t half) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(half));
#else
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fffu) << 13;
  // The exponents' biases differ by 112: an exact multiplication, which normalises subnormals too.
  const uint32_t finite = bits_of(float_of(magnitude) * 0x1p112f);
  const uint32_t quiet = magnitude > 0x0f800000u ? 0x00400000u : 0u;
  const uint32_t special = 0x7f800000u | magnitude | quiet;
  return float_of(sign | (magnitude >= 0x0f800000u ? special : finite));
#endif
}

MPT_HD uint16_t f32_to_f16(float x) {
#if defined(__CUDA_ARCH__)
  return __half_as_ushort(__float2half_rn(x));
#else
  const uint32_t sign = (bits_of(x) >> 16) & 0x8000u;
  const uint32_t magnitude = bits_of(x) & 0x7fffffffu;
  // Normal: add half of the last place that stays (rounding a tie up only where that place is odd), then shift; a carry
  // moves the exponent, up to infinity.
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Below 2^-14: adding 1/2 makes the FPU round at 2^-24, where the last place of a subnormal half is.
  const uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
  half = magnitude >= 0x47800000u ? 0x7c00u : half;
  half = magnitude > 0x7f800000u ? nan : half;
  return static_cast<uint16_t>(sign | half);
#endif
}

MPT_HD float bf16_to_f32(uint16_t x) { return float_of(static_cast<uint32_t>(x) << 16); }

MPT_HD uint16_t f32_to_bf16(float x) {
#if defined(__CUDA_ARCH__)
  return __bfloat16_as_ushort(__float2bfloat16_rn(x));
#else
  const uint32_t bits = bits_of(x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t nan = (bits >> 16) | 0x40u;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
#endif
}

}  // namespace mpt
