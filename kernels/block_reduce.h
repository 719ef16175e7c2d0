// Sums and maxima over a warp or a block, in an order that depends on the number of threads alone: the same bits every time.
#pragma once

#include "kernels/launch.h"

namespace mpt::cuda {

constexpr int warp_size = 32;
constexpr unsigned full_warp = 0xffffffffu;

struct Sum {
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};

// NaN wins, as in the CPU's maximum.
struct Max {
  __device__ __forceinline__ float operator()(float a, float b) const {
    if (a != a) return a;
    return a > b ? a : b;  // b where b is NaN
  }
};

// All lanes get the result. All 32 lanes must call.
template <typename Op, typename T>
__device__ __forceinline__ T warp_reduce(Op op, T x) {
  MPT_UNROLL
  for (int distance = warp_size / 2; distance > 0; distance /= 2) x = op(x, __shfl_xor_sync(full_warp, x, distance));
  return x;
}

// All threads get the result; blockDim.x is a multiple of 32, at most 1024, and all threads call. `room` is shared memory of
// blockDim.x / 32 elements, free for other use after the call.
template <typename Op, typename T>
__device__ __forceinline__ T block_reduce(Op op, T x, T* room) {
  x = warp_reduce(op, x);
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  const int warps = static_cast<int>(blockDim.x) / warp_size;
  if (lane == 0) room[warp] = x;
  __syncthreads();
  T total = room[0];
  for (int w = 1; w < warps; ++w) total = op(total, room[w]);
  __syncthreads();
  return total;
}

}  // namespace mpt::cuda
