// One vector of 32-bit lanes for the matrix multiply, in the width of the build: the loads that packing needs, the square
// transposition, and multiply-add.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
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

#define MPT_INLINE static inline __attribute__((always_inline))

namespace mpt::cpu::MPT_ISA {
namespace {

#if defined(__AVX512F__)

using Vec = __m512;
constexpr int lanes = 16;
constexpr int tile_rows = 14;

MPT_INLINE Vec zero() { return _mm512_setzero_ps(); }
MPT_INLINE Vec splat(float x) { return _mm512_set1_ps(x); }
MPT_INLINE Vec broadcast(const float* p) { return splat(*p); }
MPT_INLINE Vec load(const float* p) { return _mm512_loadu_ps(p); }
MPT_INLINE void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
MPT_INLINE Vec multiply_add(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }

MPT_INLINE float sum_of_lanes(Vec v) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

MPT_INLINE __m256i load_halves(const uint16_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
MPT_INLINE __m256i load_halves(const uint16_t* p, int n) {
  return _mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << n) - 1), p);
}
MPT_INLINE Vec load(const float* p, int n) { return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p); }
MPT_INLINE Vec widen_f16(__m256i v) { return _mm512_cvtph_ps(v); }
MPT_INLINE Vec widen_bf16(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }
MPT_INLINE void store_halves(uint16_t* p, __m256i v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
MPT_INLINE __m256i narrow_f16(Vec v) { return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }
// To nearest even in integers: native conversion would flush subnormals. NaN stays NaN, made quiet.
MPT_INLINE __m256i narrow_bf16(Vec v) {
  const __m512i bits = _mm512_castps_si512(v), high = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff)), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40)));
}

MPT_INLINE void transpose(Vec (&r)[lanes]) {
  Vec t[lanes];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 4) {
    for (int h = 0; h < 2; ++h) {
      const __m512d low = _mm512_castps_pd(t[i + h]), high = _mm512_castps_pd(t[i + 2 + h]);
      r[i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      r[i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
  }
  // Now r[4 g + c] holds, in 128-bit block q, column 4 q + c of rows 4 g to 4 g + 3.
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const Vec low02 = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88), low13 = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd);
    const Vec high02 = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
    const Vec high13 = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
    t[c] = _mm512_shuffle_f32x4(low02, high02, 0x88);
    t[8 + c] = _mm512_shuffle_f32x4(low02, high02, 0xdd);
    t[4 + c] = _mm512_shuffle_f32x4(low13, high13, 0x88);
    t[12 + c] = _mm512_shuffle_f32x4(low13, high13, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}

#elif defined(__AVX2__)

using Vec = __m256;
constexpr int lanes = 8;
constexpr int tile_rows = 6;

MPT_INLINE Vec zero() { return _mm256_setzero_ps(); }
MPT_INLINE Vec splat(float x) { return _mm256_set1_ps(x); }
MPT_INLINE Vec broadcast(const float* p) { return _mm256_broadcast_ss(p); }
MPT_INLINE Vec load(const float* p) { return _mm256_loadu_ps(p); }
MPT_INLINE void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
MPT_INLINE Vec multiply_add(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }

MPT_INLINE float sum_of_lanes(Vec v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

MPT_INLINE __m128i load_halves(const uint16_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
MPT_INLINE __m128i load_halves(const uint16_t* p, int n) {
  uint16_t buffer[lanes] = {};
  std::memcpy(buffer, p, static_cast<std::size_t>(n) * sizeof *p);
  return load_halves(buffer);
}
MPT_INLINE Vec load(const float* p, int n) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), index));
}
MPT_INLINE Vec widen_f16(__m128i v) { return _mm256_cvtph_ps(v); }
MPT_INLINE Vec widen_bf16(__m128i v) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16)); }
MPT_INLINE void store_halves(uint16_t* p, __m128i v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }
MPT_INLINE __m128i narrow_f16(Vec v) { return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }
// To nearest even, in integers. NaN stays NaN, made quiet.
MPT_INLINE __m128i narrow_bf16(Vec v) {
  const __m256i bits = _mm256_castps_si256(v), high = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7fff)), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  const __m256i chosen = _mm256_blendv_epi8(rounded, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(chosen), _mm256_extracti128_si256(chosen, 1));
}

MPT_INLINE void transpose(Vec (&r)[lanes]) {
  Vec t[lanes];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    t[c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x20);
    t[4 + c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x31);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) r[i] = t[i];
}

#else

typedef float Vec __attribute__((vector_size(16)));
typedef uint32_t Bits __attribute__((vector_size(16)));
constexpr int lanes = 4;
constexpr int tile_rows = 4;

MPT_INLINE Vec zero() { return Vec{}; }
MPT_INLINE Vec splat(float x) { return Vec{x, x, x, x}; }
MPT_INLINE Vec broadcast(const float* p) { return splat(*p); }
MPT_INLINE Vec load(const float* p, int n = lanes) {
  Vec v{};
  std::memcpy(&v, p, static_cast<std::size_t>(n) * sizeof *p);
  return v;
}
MPT_INLINE void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }
MPT_INLINE Vec multiply_add(Vec a, Vec b, Vec c) { return a * b + c; }

MPT_INLINE float sum_of_lanes(Vec v) { return (v[0] + v[2]) + (v[1] + v[3]); }

MPT_INLINE Bits load_halves(const uint16_t* p) { return Bits{p[0], p[1], p[2], p[3]}; }
MPT_INLINE Bits load_halves(const uint16_t* p, int n) {
  uint16_t buffer[lanes] = {};
  std::memcpy(buffer, p, static_cast<std::size_t>(n) * sizeof *p);
  return load_halves(buffer);
}
// The exponent is moved by an exact multiplication, which also normalises subnormals; 31 becomes infinity or NaN.
MPT_INLINE Vec widen_f16(Bits v) {
  const Bits magnitude = (v & 0x7fff) << 13;
  const float two_to_112 = 0x1p112f;
  Vec scaled = (Vec)magnitude * broadcast(&two_to_112);
  const Bits not_finite = (Bits)(magnitude >= 0x7c00u << 13);
  return (Vec)((Bits)scaled | (not_finite & 0x7f800000) | ((v & 0x8000) << 16));
}
MPT_INLINE Vec widen_bf16(Bits v) { return (Vec)(v << 16); }
MPT_INLINE void store_halves(uint16_t* p, Bits v) {
  for (int i = 0; i < lanes; ++i) p[i] = static_cast<uint16_t>(v[i]);
}
MPT_INLINE Bits narrow_f16(Vec v) {
  const Bits sign = ((Bits)v >> 16) & 0x8000, magnitude = (Bits)v & 0x7fffffff;
  // Adding a number whose unit in the last place is FP16's smallest subnormal rounds to a multiple of that.
  const Bits subnormal = (Bits)((Vec)magnitude + 0.5f) - 0x3f000000;
  const Bits normal = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  const Bits nan = 0x7e00 | ((magnitude >> 13) & 0x3ff);
  Bits chosen = magnitude < 0x38800000 ? subnormal : normal;    // below 2^-14
  chosen = magnitude >= 0x477ff000 ? Bits{} + 0x7c00 : chosen;  // rounds to 65536 or more
  chosen = magnitude > 0x7f800000 ? nan : chosen;
  return chosen | sign;
}
MPT_INLINE Bits narrow_bf16(Vec v) {
  const Bits bits = (Bits)v, high = bits >> 16;
  return (bits & 0x7fffffff) > 0x7f800000 ? high | 0x40 : (bits + 0x7fff + (high & 1)) >> 16;
}

MPT_INLINE void transpose(Vec (&r)[lanes]) {
  const Vec low01 = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5),
            high01 = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
  const Vec low23 = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5),
            high23 = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
  r[0] = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
  r[1] = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
  r[2] = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
  r[3] = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
}

#endif

constexpr int tile_vectors = 2;
constexpr int tile_columns = tile_vectors * lanes;

}  // namespace
}  // namespace mpt::cpu::MPT_ISA
