// Blocks of a piece on their way through the first-level cache: widening, rounding, sums of squares in a fixed order.
#pragma once

#include <cstdint>
#include <cstring>

#include "backend/cpu/isa/convert.h"
#include "backend/cpu/isa/flat_kernels.h"
#include "kernels/numerics/optimizers.h"

#define MPT_INLINE static inline __attribute__((always_inline))

namespace mpt::cpu::MPT_ISA {
namespace {

// One block of FP32 numbers, padded with zeros to whole vectors.
struct Block {
  alignas(64) float v[flat_block];
};

MPT_INLINE int64_t padded(int64_t n) { return (n + 15) & ~int64_t{15}; }

// Unscaled and clipped gradients of a block; zeros after them.
MPT_INLINE void load_gradients(const FlatPiece& piece, int64_t offset, int64_t n, Block& g) {
  widen(piece.gradient_type, piece.gradient, offset, n, g.v);
  const float inverse = piece.inverse_scale, limit = piece.clip_value, factor = piece.clip_factor;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) g.v[i] = unscaled_gradient(g.v[i], inverse, limit, factor);
  for (int64_t i = n; i < padded(n); ++i) g.v[i] = 0;
}

MPT_INLINE void load_weights(const FlatPiece& piece, int64_t offset, int64_t n, Block& w) {
  if (piece.master != nullptr) {
    widen(Element::f32, piece.master, offset, n, w.v);
  } else {
    widen(piece.copy_type, piece.copy, offset, n, w.v);
  }
  for (int64_t i = n; i < padded(n); ++i) w.v[i] = 0;
}

// Sums of squares in double: element i of a block goes to chain i mod 16 whatever the width of the vectors. The products are
// exact.
#if defined(__AVX512F__)
using Chain = __m512d;
MPT_INLINE Chain widened(const float* x) { return _mm512_cvtps_pd(_mm256_load_ps(x)); }
#elif defined(__AVX2__)
using Chain = __m256d;
MPT_INLINE Chain widened(const float* x) { return _mm256_cvtps_pd(_mm_load_ps(x)); }
#else
using Chain = double;
MPT_INLINE Chain widened(const float* x) { return *x; }
#endif
constexpr int chain_lanes = static_cast<int>(sizeof(Chain) / sizeof(double));
constexpr int chains = 16 / chain_lanes;

struct Squares {
  Chain chain[chains] = {};
};

MPT_INLINE void add_squares(const Block& block, int64_t n, Squares& sum) {
  Squares s = sum;
  for (int64_t i = 0; i < padded(n); i += 16) {
#pragma GCC unroll 16
    for (int c = 0; c < chains; ++c) {
      const Chain x = widened(block.v + i + c * chain_lanes);
      s.chain[c] += x * x;
    }
  }
  sum = s;
}

MPT_INLINE double total(const Squares& sum) {
  double lane[16];
  std::memcpy(lane, sum.chain, sizeof lane);
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
}

template <typename F>
MPT_INLINE void for_blocks(int64_t count, F&& body) {
  for (int64_t offset = 0; offset < count; offset += flat_block)
    body(offset, count - offset < flat_block ? count - offset : flat_block);
}

}  // namespace
}  // namespace mpt::cpu::MPT_ISA
