// What the kernels of the flat passes share: pieces, the optimizers' rules as types, sums of squares in the CPU's order.
#pragma once

#include "kernels/block_reduce.h"
#include "kernels/flat_passes.h"
#include "kernels/numerics/piece_sum.h"

namespace mpt::cuda {

// ---- a piece of a segment, its arrays from the piece's first element on

struct PieceArrays {
  float* master;
  uint16_t* copy;
  const void* gradient;
  float *moment1, *moment2, *average;
  Element copy_type, gradient_type;
  int count;
};

template <typename T>
__device__ __forceinline__ T* advanced(T* array, int64_t elements) {
  return array == nullptr ? nullptr : array + elements;
}

// moment2 is one number per element.
__device__ __forceinline__ PieceArrays piece_arrays(const FlatSegment& s, const FlatPiece& where) {
  PieceArrays p;
  p.master = advanced(s.master, where.begin);
  p.copy = advanced(s.copy, where.begin);
  p.gradient = static_cast<const char*>(s.gradient) + where.begin * size_of_element(s.gradient_type);
  p.moment1 = advanced(s.moment1, where.begin);
  p.moment2 = advanced(s.moment2, where.begin);
  p.average = advanced(s.average, where.begin);
  p.copy_type = s.copy_type;
  p.gradient_type = s.gradient_type;
  p.count = where.count;
  return p;
}

// What is done with stored gradients before a rule takes them.
struct GradientScaling {
  float inverse, clip_value, clip_factor;
  __device__ __forceinline__ float operator()(float stored) const {
    return unscaled_gradient(stored, inverse, clip_value, clip_factor);
  }
};
__device__ __forceinline__ GradientScaling update_scaling(const FlatControl& control) {
  return {static_cast<float>(control.inverse_scale), static_cast<float>(control.clip_value), control.clip_factor};
}

// ---- one element or a group of four. A warp's groups are adjacent: FP32 arrays are read and written 512 bytes at a time.

struct alignas(8) Words2 {
  uint32_t v[2];
};

__device__ __forceinline__ bool allows_groups(const void* fp32) {
  return (reinterpret_cast<uintptr_t>(fp32) & 15) == 0;
}
__device__ __forceinline__ bool allows_groups(const void* array, Element type) {
  return (reinterpret_cast<uintptr_t>(array) & (type == Element::f32 ? 15 : 7)) == 0;
}

template <int n>
__device__ __forceinline__ void load_group(const void* array, Element type, int i, float (&x)[n]) {
  static_assert(n == 1 || n == 4);
  if constexpr (n == 1) {
    x[0] = load_element(array, type, i);
  } else if (type == Element::f32) {
    const Words4 words = load_words(static_cast<const float*>(array) + i);
    MPT_UNROLL
    for (int j = 0; j < 4; ++j) x[j] = float_of(words.v[j]);
  } else {
    const Words2 words = *reinterpret_cast<const Words2*>(static_cast<const uint16_t*>(array) + i);
    MPT_UNROLL
    for (int j = 0; j < 2; ++j) {
      const uint16_t low = static_cast<uint16_t>(words.v[j]), high = static_cast<uint16_t>(words.v[j] >> 16);
      x[2 * j] = type == Element::f16 ? f16_to_f32(low) : bf16_to_f32(low);
      x[2 * j + 1] = type == Element::f16 ? f16_to_f32(high) : bf16_to_f32(high);
    }
  }
}

template <int n>
__device__ __forceinline__ void store_group(void* array, Element type, int i, const float (&x)[n]) {
  static_assert(n == 1 || n == 4);
  if constexpr (n == 1) {
    store_element(array, type, i, x[0]);
  } else if (type == Element::f32) {
    store_words(static_cast<float*>(array) + i, Words4{{bits_of(x[0]), bits_of(x[1]), bits_of(x[2]), bits_of(x[3])}});
  } else {
    Words2 words;
    MPT_UNROLL
    for (int j = 0; j < 2; ++j) {
      const uint32_t low = type == Element::f16 ? f32_to_f16(x[2 * j]) : f32_to_bf16(x[2 * j]);
      const uint32_t high = type == Element::f16 ? f32_to_f16(x[2 * j + 1]) : f32_to_bf16(x[2 * j + 1]);
      words.v[j] = low | high << 16;
    }
    *reinterpret_cast<Words2*>(static_cast<uint16_t*>(array) + i) = words;
  }
}

template <int n>
__device__ __forceinline__ void load_weights(const PieceArrays& p, int i, float (&w)[n]) {
  if (p.master != nullptr)
    load_group<n>(p.master, Element::f32, i, w);
  else
    load_group<n>(p.copy, p.copy_type, i, w);
}

// ---- rules: which moments each has, whether it reads gradients, and the update of an element

struct Sgd {
  static constexpr bool first = false, second = false, gradient = true;
  __device__ static __forceinline__ float update(const RuleConstants& c, float, float g, float w, float&, float&) {
    return sgd_rule(c, g, w);
  }
};
template <bool nesterov>
struct SgdMomentum {
  static constexpr bool first = true, second = false, gradient = true;
  __device__ static __forceinline__ float update(const RuleConstants& c, float, float g, float w, float& m, float&) {
    return sgd_momentum_rule(c, nesterov, g, w, m);
  }
};
struct Adam {
  static constexpr bool first = true, second = true, gradient = true;
  __device__ static __forceinline__ float update(const RuleConstants& c, float, float g, float w, float& m, float& v) {
    return adam_rule(c, g, w, m, v);
  }
};
struct AdamW {
  static constexpr bool first = true, second = true, gradient = true;
  __device__ static __forceinline__ float update(const RuleConstants& c, float, float g, float w, float& m, float& v) {
    return adamw_rule(c, g, w, m, v);
  }
};
// After the pass for the norms has moved the moments.
struct LambSecond {
  static constexpr bool first = true, second = true, gradient = false;
  __device__ static __forceinline__ float update(const RuleConstants& c, float factor, float, float w, float& m,
                                                 float& v) {
    return -(c.rate * factor * lamb_direction_again(c, w, m, v));
  }
};
// The same with moments that have not been moved.
struct LambWhole {
  static constexpr bool first = true, second = true, gradient = true;
  __device__ static __forceinline__ float update(const RuleConstants& c, float factor, float g, float w, float& m,
                                                 float& v) {
    return -(c.rate * factor * lamb_direction(c, g, w, m, v));
  }
};
struct Adagrad {
  static constexpr bool first = false, second = true, gradient = true;
  __device__ static __forceinline__ float update(const RuleConstants& c, float, float g, float w, float&, float& v) {
    return adagrad_rule(c, g, w, v);
  }
};
struct NovoGrad {
  static constexpr bool first = true, second = false, gradient = true;
  __device__ static __forceinline__ float update(const RuleConstants& c, float factor, float g, float w, float& m,
                                                 float&) {
    return novograd_rule(c, factor, g, w, m);
  }
};
struct Lion {
  static constexpr bool first = true, second = false, gradient = true;
  __device__ static __forceinline__ float update(const RuleConstants& c, float, float g, float w, float& m, float&) {
    return lion_rule(c, g, w, m);
  }
};

// Calls f(rule) with the optimizer's. `Lamb` is one of the two.
template <typename Lamb, typename F>
void with_rule(const OptimizerHyper& hyper, F&& f) {
  switch (hyper.kind) {
    case MPT_SGD:
      if (!has_moment1(hyper)) return f(Sgd{});
      return hyper.nesterov ? f(SgdMomentum<true>{}) : f(SgdMomentum<false>{});
    case MPT_ADAM:
      return f(Adam{});
    case MPT_ADAMW:
      return f(AdamW{});
    case MPT_LAMB:
      return f(Lamb{});
    case MPT_ADAGRAD:
      return f(Adagrad{});
    case MPT_NOVOGRAD:
      return f(NovoGrad{});
    default:
      return f(Lion{});
  }
}

// ---- sums of squares: 16 lanes to a piece, for its element i belongs to chain i mod 16 on the CPU too. Each lane adds its
// own in order (the square of an FP32 number is exact in double, so that fusing it into the sum changes nothing), then the
// chains are folded by halves. A row of 16 elements is one sector of memory or two; enough of them are on their way because
// pieces are many and each lane asks for a batch of rows before it uses the first.

constexpr int piece_lanes = 16;
constexpr int pieces_per_block = 8;
constexpr int piece_threads = piece_lanes * pieces_per_block;

// The 16 lanes of a piece: the two pieces of a warp go their own ways.
__device__ __forceinline__ unsigned piece_mask() {
  return 0xffffu << (threadIdx.x % warp_size / piece_lanes * piece_lanes);
}

__device__ __forceinline__ double add_square(double sum, float x) {
  const double wide = x;
#if defined(__CUDA_ARCH__)
  return __fma_rn(wide, wide, sum);
#else
  return sum + wide * wide;
#endif
}

// All 16 lanes get the result, and all must call.
template <typename T, typename Op>
__device__ __forceinline__ T fold_lanes(Op op, T x) {
  const unsigned mask = piece_mask();
  MPT_UNROLL
  for (int distance = piece_lanes / 2; distance > 0; distance /= 2) x = op(x, __shfl_xor_sync(mask, x, distance));
  return x;
}

// The sum over the pieces begin .. begin + n - 1 in PieceSum's order, by a block of piece_chains threads; thread 0 gets it.
// `chains` is shared memory of piece_chains elements.
__device__ __forceinline__ double sum_of_pieces(const double* sums, int64_t n, double* chains) {
  const int thread = static_cast<int>(threadIdx.x);
  constexpr int batch = 8;  // on their way at a time
  double sum = 0;
  int64_t i = thread;
  for (; i + (batch - 1) * piece_chains < n; i += batch * piece_chains) {
    double next[batch];
    MPT_UNROLL
    for (int j = 0; j < batch; ++j) next[j] = sums[i + j * piece_chains];
    MPT_UNROLL
    for (int j = 0; j < batch; ++j) sum += next[j];
  }
  for (; i < n; i += piece_chains) sum += sums[i];
  chains[thread] = sum;
  __syncthreads();
  for (int half = piece_chains / 2; half > 0; half /= 2) {
    if (thread < half) chains[thread] += chains[thread + half];
    __syncthreads();
  }
  return chains[thread];
}

}  // namespace mpt::cuda
