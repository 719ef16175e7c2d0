// What lets the same scalar functions serve the host's vector loops, ISA-specific builds and CUDA kernels: each is inlined
// wherever it is called, so that no copy compiled for one instruction set is ever linked into code for another.
#pragma once

#include <stdint.h>

#if defined(__CUDACC__)
#define MPT_HD static __host__ __device__ __forceinline__
#else
#define MPT_HD static inline __attribute__((always_inline, unused))
#endif

namespace mpt {

MPT_HD uint32_t bits_of(float x) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(x);
#else
  return __builtin_bit_cast(uint32_t, x);
#endif
}

MPT_HD float float_of(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  return __builtin_bit_cast(float, bits);
#endif
}

// a * b + c with one rounding, on every machine.
MPT_HD float fused_multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#elif defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, c);
#else
  // The product is exact in double. The sum is rounded to odd there (its last bit tells whether anything was lost), and a
  // number rounded to odd with 53 bits rounds correctly to 24 (Boldo and Melquiond 2008).
  const double product = static_cast<double>(a) * b, addend = c;
  const double sum = product + addend;
  const double part = sum - product;
  const double lost = (product - (sum - part)) + (addend - part);
  const uint64_t bits = __builtin_bit_cast(uint64_t, sum);
  const uint64_t even = ~bits & 1, down = (__builtin_bit_cast(uint64_t, lost) ^ bits) >> 63;
  const double odd = __builtin_bit_cast(double, bits + even - 2 * (even & down));
  return static_cast<float>(__builtin_fabs(lost) > 0 ? odd : sum);  // NaN: sum
#endif
}

}  // namespace mpt
