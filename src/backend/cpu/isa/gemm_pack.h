// Packing of matrix operands into panels of 32-bit lanes (see gemm_kernels.h), for any element type and either order.
// A panel's lane i is the operand's row i (A) or column i (B).
#pragma once

#include "backend/cpu/isa/gemm_simd.h"

namespace mpt::cpu::MPT_ISA {
namespace {

// An element type says how `lanes` lanes are read: along k from one row of memory (run), and across lanes at one k (across).
// `unit` elements make a lane; n elements are there to read.
struct ElementF32 {
  using Source = float;
  static constexpr int unit = 1;
  MPT_INLINE Vec run(const float* p) { return load(p); }
  MPT_INLINE Vec run(const float* p, int n) { return load(p, n); }
  MPT_INLINE Vec across(const float* p, int64_t, int64_t) { return load(p); }
  MPT_INLINE Vec across(const float* p, int64_t, int64_t, int n) { return load(p, n); }
};

struct ElementF16 {
  using Source = uint16_t;
  static constexpr int unit = 1;
  MPT_INLINE Vec run(const uint16_t* p) { return widen_f16(load_halves(p)); }
  MPT_INLINE Vec run(const uint16_t* p, int n) { return widen_f16(load_halves(p, n)); }
  MPT_INLINE Vec across(const uint16_t* p, int64_t, int64_t) { return run(p); }
  MPT_INLINE Vec across(const uint16_t* p, int64_t, int64_t, int n) { return run(p, n); }
};

struct ElementBF16 {
  using Source = uint16_t;
  static constexpr int unit = 1;
  MPT_INLINE Vec run(const uint16_t* p) { return widen_bf16(load_halves(p)); }
  MPT_INLINE Vec run(const uint16_t* p, int n) { return widen_bf16(load_halves(p, n)); }
  MPT_INLINE Vec across(const uint16_t* p, int64_t, int64_t) { return run(p); }
  MPT_INLINE Vec across(const uint16_t* p, int64_t, int64_t, int n) { return run(p, n); }
};

#if defined(__AVX512F__)
// Two consecutive k in one lane, the first in the low half; no arithmetic on them here.
struct ElementPair {
  using Source = uint16_t;
  static constexpr int unit = 2;
  MPT_INLINE Vec run(const uint16_t* p) { return _mm512_loadu_ps(p); }
  MPT_INLINE Vec run(const uint16_t* p, int n) {
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(static_cast<__mmask32>((1ull << n) - 1), p));
  }
  MPT_INLINE Vec interleave(__m256i first, __m256i second) {
    return _mm512_castsi512_ps(
        _mm512_or_si512(_mm512_cvtepu16_epi32(first), _mm512_slli_epi32(_mm512_cvtepu16_epi32(second), 16)));
  }
  MPT_INLINE Vec across(const uint16_t* p, int64_t ld, int64_t k_left) {
    return interleave(load_halves(p), k_left > 1 ? load_halves(p + ld) : _mm256_setzero_si256());
  }
  MPT_INLINE Vec across(const uint16_t* p, int64_t ld, int64_t k_left, int n) {
    return interleave(load_halves(p, n), k_left > 1 ? load_halves(p + ld, n) : _mm256_setzero_si256());
  }
};
#endif

// Lane i is memory row i, contiguous along k: square blocks are transposed in registers.
template <typename Element>
MPT_INLINE void pack_transposing(const typename Element::Source* source, int64_t ld, int count, int64_t k, float* panel,
                                 int width) {
  const int64_t steps = (k + Element::unit - 1) / Element::unit;
  for (int64_t step = 0; step < steps; step += lanes) {
    const int64_t left = k - step * Element::unit;
    const int block = steps - step < lanes ? static_cast<int>(steps - step) : lanes;
    for (int first = 0; first < width; first += lanes) {
      const typename Element::Source* p = source + first * ld + step * Element::unit;
      const int rows = count - first;
      Vec v[lanes];
      if (left >= lanes * Element::unit) {
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i) v[i] = i < rows ? Element::run(p + i * ld) : zero();
      } else {
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i) v[i] = i < rows ? Element::run(p + i * ld, static_cast<int>(left)) : zero();
      }
      transpose(v);
      float* out = panel + step * width + first;
      if (block == lanes) {
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i) store(out + i * width, v[i]);
      } else {
        for (int i = 0; i < block; ++i) store(out + i * width, v[i]);
      }
    }
  }
}

// Lane i is memory column i: at each k the lanes of all panels are contiguous. A panel takes `used` columns and is `width`
// lanes wide; panels follow one another, the last one maybe narrower (a multiple of `lanes`).
template <typename Element>
MPT_INLINE void pack_copying(const typename Element::Source* source, int64_t ld, int64_t count, int64_t k,
                             float* panels, int used, int width) {
  const int64_t row = ld * Element::unit;
  const int64_t steps = (k + Element::unit - 1) / Element::unit;
  for (int64_t step = 0; step < steps; ++step) {
    const typename Element::Source* p = source + step * row;
    const int64_t left = k - step * Element::unit;
    float* panel = panels;
    for (int64_t column = 0; column < count; column += used, panel += steps * width) {
      const int n = count - column < used ? static_cast<int>(count - column) : used;
      const int this_width = n > width - lanes ? width : width - lanes;
      float* out = panel + step * this_width;
#pragma GCC unroll 2
      for (int first = 0; first < this_width; first += lanes) {
        // Where a panel uses fewer lanes, the rest is never looked at: whole lanes are read while the row has them.
        store(out + first, count - column - first >= lanes ? Element::across(p + column + first, ld, left)
                                                           : Element::across(p + column + first, ld, left, n - first));
      }
    }
  }
}

template <typename Element, bool Transposed>
void pack_a(const void* a, int64_t ld, int64_t m, int64_t k, void* panels) {
  const auto* source = static_cast<const typename Element::Source*>(a);
  auto* out = static_cast<float*>(panels);
  if constexpr (Transposed) {
    pack_copying<Element>(source, ld, m, k, out, tile_rows, lanes);
  } else {
    const int64_t steps = (k + Element::unit - 1) / Element::unit;
    for (; m >= tile_rows; m -= tile_rows, source += tile_rows * ld, out += steps * lanes)
      pack_transposing<Element>(source, ld, tile_rows, k, out, lanes);
    if (m > 0) pack_transposing<Element>(source, ld, static_cast<int>(m), k, out, lanes);
  }
}

template <typename Element, bool Transposed>
void pack_b(const void* b, int64_t ld, int64_t n, int64_t k, void* panels) {
  const auto* source = static_cast<const typename Element::Source*>(b);
  auto* out = static_cast<float*>(panels);
  const int64_t steps = (k + Element::unit - 1) / Element::unit;
  if constexpr (Transposed) {
    for (; n >= tile_columns; n -= tile_columns, source += tile_columns * ld, out += steps * tile_columns)
      pack_transposing<Element>(source, ld, tile_columns, k, out, tile_columns);
    if (n > lanes) {
      pack_transposing<Element>(source, ld, static_cast<int>(n), k, out, tile_columns);
    } else if (n > 0) {
      pack_transposing<Element>(source, ld, static_cast<int>(n), k, out, lanes);
    }
  } else {
    // A few panels at a time: rows are read in long runs, and not too many places are written in turn.
    constexpr int64_t group = 4 * tile_columns;
    for (; n > 0; n -= group, source += group, out += steps * group)
      pack_copying<Element>(source, ld, n < group ? n : group, k, out, tile_columns, tile_columns);
  }
}

}  // namespace
}  // namespace mpt::cpu::MPT_ISA
