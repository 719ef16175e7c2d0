// Block-wise conversion between storage and FP32 at the vector width of the build; the bits are those of
// kernels/numerics/float16.h. Included by the files of this folder only.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__F16C__)
// GCC 12 takes the intrinsics' deliberately undefined operands for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif

#include "backend/cpu/isa/element.h"
#include "kernels/numerics/float16.h"

namespace mpt::cpu::MPT_ISA {
namespace {

MPT_HD void widen_f16(const uint16_t* from, int64_t n, float* to) {
  int64_t i = 0;
#if defined(__AVX512F__)
  for (; i + 16 <= n; i += 16)
    _mm512_storeu_ps(to + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i))));
#elif defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
#endif
#pragma omp simd
  for (int64_t j = i; j < n; ++j) to[j] = f16_to_f32(from[j]);
}

MPT_HD void narrow_f16(const float* from, int64_t n, uint16_t* to) {
  int64_t i = 0;
#if defined(__AVX512F__)
  for (; i + 16 <= n; i += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i),
                        _mm512_cvtps_ph(_mm512_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
#endif
#pragma omp simd
  for (int64_t j = i; j < n; ++j) to[j] = f32_to_f16(from[j]);
}

MPT_HD void widen_bf16(const uint16_t* from, int64_t n, float* to) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] = bf16_to_f32(from[i]);
}

// By integer operations: the AVX512_BF16 instruction flushes subnormals.
MPT_HD void narrow_bf16(const float* from, int64_t n, uint16_t* to) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] = f32_to_bf16(from[i]);
}

// n elements from number `first` of `from`.
MPT_HD void widen(Element type, const void* from, int64_t first, int64_t n, float* to) {
  if (type == Element::f32) {
    std::memcpy(to, static_cast<const float*>(from) + first, static_cast<std::size_t>(n) * sizeof(float));
  } else if (type == Element::f16) {
    widen_f16(static_cast<const uint16_t*>(from) + first, n, to);
  } else {
    widen_bf16(static_cast<const uint16_t*>(from) + first, n, to);
  }
}

MPT_HD void narrow(Element type, const float* from, int64_t n, void* to, int64_t first) {
  if (type == Element::f32) {
    std::memcpy(static_cast<float*>(to) + first, from, static_cast<std::size_t>(n) * sizeof(float));
  } else if (type == Element::f16) {
    narrow_f16(from, n, static_cast<uint16_t*>(to) + first);
  } else {
    narrow_bf16(from, n, static_cast<uint16_t*>(to) + first);
  }
}

MPT_HD float load_one(Element type, const void* from, int64_t index) {
  if (type == Element::f32) return static_cast<const float*>(from)[index];
  const uint16_t bits = static_cast<const uint16_t*>(from)[index];
  return type == Element::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

}  // namespace
}  // namespace mpt::cpu::MPT_ISA
