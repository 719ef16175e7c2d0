// The sum of exponentials in one reading: relative to the largest number so far, and shrunk where that grows.
#pragma once

#include "kernels/numerics/math.h"
#include "kernels/rows.h"

namespace mpt::cuda {

// The sum over x of exp(x - top). A NaN is passed over by `top` and makes the sum one; so does an infinite x.
struct OnlineSum {
  float top, sum;

  // -infinity: nothing but that so far, a sum of 0.
  __device__ __forceinline__ static float base_of(float top) { return top == float_of(0xff800000u) ? 0.0f : top; }

  template <int V>
  __device__ __forceinline__ void add(const float (&x)[V][vector_length]) {
    float new_top = top;
    MPT_UNROLL
    for (int j = 0; j < V; ++j) {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) new_top = fmaxf(new_top, x[j][k]);
    }
    const float base = base_of(new_top);
    float part = 0;
    MPT_UNROLL
    for (int j = 0; j < V; ++j) {
      float e[vector_length];
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) e[k] = exp_f32(x[j][k] - base);
      part += sum_of_vector(e);
    }
    sum = fused_multiply_add(sum, exp_f32(top - base), part);
    top = new_top;
  }

  // The sum as it is relative to a top at least as large.
  __device__ __forceinline__ float relative_to(float new_top) const { return sum * exp_f32(top - base_of(new_top)); }
};

__device__ __forceinline__ OnlineSum empty_online_sum() { return {float_of(0xff800000u), 0.0f}; }

}  // namespace mpt::cuda
