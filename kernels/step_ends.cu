#include "kernels/step_ends.h"

namespace mpt::cuda {
namespace {

constexpr int threads = 256;

__global__ void loss_seed_kernel(double weight, const StepVars* vars, float* out) {
  *out = static_cast<float>(weight * static_cast<double>(vars->loss_scale) * static_cast<double>(vars->loss_weight));
}

// aligned: both tensors to 16 bytes.
__global__ void __launch_bounds__(threads)
    accumulate_kernel(const void* x, Element type, int64_t n, const StepVars* vars, float* sums, bool aligned) {
  const bool first = vars->micro_step == 0;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x * vector_length;
  for (int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * vector_length; i < n; i += step) {
    if (aligned && n - i >= vector_length) {
      float a[vector_length], b[vector_length];
      load_vector(x, type, i, a);
      if (!first) {
        load_vector(sums, Element::f32, i, b);
#pragma unroll
        for (int j = 0; j < vector_length; ++j) a[j] = b[j] + a[j];
      }
      store_vector(sums, Element::f32, i, a);
    } else {
      const int64_t end = n - i < vector_length ? n : i + vector_length;
      for (int64_t e = i; e < end; ++e) {
        const float a = load_element(x, type, e);
        sums[e] = first ? a : sums[e] + a;
      }
    }
  }
}

}  // namespace

void loss_seed(double weight, const StepVars* vars, float* out, Stream stream) {
  launch(loss_seed_kernel, dim3(1), dim3(1), 0, stream, weight, vars, out);
}

void accumulate(const void* x, Element type, int64_t n, const StepVars* vars, float* sums, Stream stream) {
  if (n == 0) return;
  const bool aligned = (reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(sums)) % sizeof(Words4) == 0;
  const unsigned blocks = blocks_for(n, threads * vector_length);
  launch(accumulate_kernel, dim3(blocks), dim3(threads), 0, stream, x, type, n, vars, sums, aligned);
}

}  // namespace mpt::cuda
