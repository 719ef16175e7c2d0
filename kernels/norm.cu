// A group of threads holds a row in registers, so that each tensor is read once: the mean is formed first, then the sum of
// squared distances from it. Rows that don't fit are read three times, mostly from the cache.
#include "kernels/norm.h"

#include "kernels/numerics/math.h"
#include "kernels/rows.h"

namespace mpt::cuda {
namespace {

template <int V>
__device__ __forceinline__ float sum_of_row(const float (&x)[V][vector_length]) {
  float sum = 0;
  MPT_UNROLL
  for (int j = 0; j < V; ++j) sum += sum_of_vector(x[j]);
  return sum;
}

// Of the elements that exist.
template <int V>
__device__ __forceinline__ float sum_of_squares(const Row& row, const float (&x)[V][vector_length], float mean) {
  const int32_t held = row.held();
  float sum = 0;
  MPT_UNROLL
  for (int j = 0; j < V; ++j) {
    float square[vector_length];
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k) {
      const float distance = x[j][k] - mean;
      square[k] = j * vector_length + k < held ? distance * distance : 0.0f;
    }
    sum += sum_of_vector(square);
  }
  return sum;
}

// x, or the stored sum of x and the residual. That goes two vectors at a time, for want of registers.
template <int V>
__device__ __forceinline__ void read_row(const NormArgs& a, const Row& row, float (&x)[V][vector_length]) {
  load_row(a.x, a.x_type, row, 0, x);
  if (a.residual == nullptr) return;
  constexpr int W = V < 2 ? V : 2;
  MPT_UNROLL
  for (int first = 0; first < V; first += W) {
    const Row part = row.from(first * vector_length * row.threads);
    float sum[W][vector_length];
    load_row(a.residual, a.residual_type, part, 0, sum);
    MPT_UNROLL
    for (int j = 0; j < W; ++j) {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) {
        sum[j][k] = rounded_to(a.sum_type, x[first + j][k] + sum[j][k]);
        x[first + j][k] = sum[j][k];
      }
    }
    store_row(a.sum, a.sum_type, part, sum);
  }
}

// `features`: the same share of the weight and the bias. Two vectors at a time, for want of registers.
template <int V>
__device__ __forceinline__ void write_row(const NormArgs& a, const Row& row, const Row& features, float mean,
                                          float rstd, const float (&x)[V][vector_length]) {
  constexpr int W = V < 2 ? V : 2;
  MPT_UNROLL
  for (int first = 0; first < V; first += W) {
    const int32_t begin = first * vector_length * row.threads;
    float weight[W][vector_length], bias[W][vector_length], y[W][vector_length];
    if (a.weight != nullptr) load_row(a.weight, Element::f32, features.from(begin), 0, weight);
    if (a.bias != nullptr) load_row(a.bias, Element::f32, features.from(begin), 0, bias);
    MPT_UNROLL
    for (int j = 0; j < W; ++j) {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) {
        y[j][k] = (x[first + j][k] - mean) * rstd;
        if (a.weight != nullptr)
          y[j][k] = a.bias != nullptr ? fused_multiply_add(y[j][k], weight[j][k], bias[j][k]) : y[j][k] * weight[j][k];
        else if (a.bias != nullptr)
          y[j][k] += bias[j][k];
      }
    }
    store_row(a.y, a.y_type, row.from(begin), y);
  }
}

__device__ __forceinline__ void store_statistics(const NormArgs& a, int64_t number, float mean, float rstd) {
  if (a.mean != nullptr) a.mean[number] = mean;
  if (a.rstd != nullptr) a.rstd[number] = rstd;
}

template <int V>
__global__ void __launch_bounds__(V == 4 ? row_threads : 128, V == 1 ? 10 : 1)
    norm_held(NormArgs a, int32_t threads, RowAccess access) {
  MPT_SHARED(float, room, row_threads / warp_size);
  const int64_t number = static_cast<int64_t>(blockIdx.x) * (blockDim.x / threads) + threadIdx.x / threads;
  const Row row = row_of_thread(number, a.rows, a.n, threads, access);
  const float count = static_cast<float>(a.n);
  float x[V][vector_length];
  read_row(a, row, x);
  const float mean = a.rms ? 0.0f : group_reduce(Sum{}, sum_of_row(x), threads, room) / count;
  const float variance = group_reduce(Sum{}, sum_of_squares(row, x, mean), threads, room) / count;
  const float rstd = 1 / square_root(variance + a.epsilon);
  if (row.lane == 0 && row.n > 0) store_statistics(a, number, mean, rstd);
  write_row(a, row, {0, row.n, threads, row.lane, access}, mean, rstd, x);
}

constexpr int tile_vectors = 2;
constexpr int32_t tile = row_threads * tile_vectors * vector_length;  // elements that a block has in registers

__global__ void __launch_bounds__(row_threads) norm_long(NormArgs a, RowAccess access) {
  MPT_SHARED(float, room, row_threads / warp_size);
  const int64_t number = blockIdx.x;
  const Row row = row_of_thread(number, a.rows, a.n, row_threads, access);
  const Row features{0, a.n, row_threads, row.lane, access};
  const float count = static_cast<float>(a.n);
  const void* source = a.residual != nullptr ? a.sum : a.x;  // each thread reads there what it wrote itself
  const Element source_type = a.residual != nullptr ? a.sum_type : a.x_type;
  float x[tile_vectors][vector_length];
  float sum = 0;
  for (int32_t begin = 0; begin < a.n; begin += tile) {
    read_row(a, row.from(begin), x);
    sum += sum_of_row(x);
  }
  const float mean = a.rms ? 0.0f : group_reduce(Sum{}, sum, row_threads, room) / count;
  sum = 0;
  for (int32_t begin = 0; begin < a.n; begin += tile) {
    load_row(source, source_type, row.from(begin), 0, x);
    sum += sum_of_squares(row.from(begin), x, mean);
  }
  const float variance = group_reduce(Sum{}, sum, row_threads, room) / count;
  const float rstd = 1 / square_root(variance + a.epsilon);
  if (row.lane == 0) store_statistics(a, number, mean, rstd);
  for (int32_t begin = 0; begin < a.n; begin += tile) {
    load_row(source, source_type, row.from(begin), 0, x);
    write_row(a, row.from(begin), features.from(begin), mean, rstd, x);
  }
}

using NormKernel = void (*)(NormArgs, int32_t, RowAccess);

}  // namespace

void norm(const NormArgs& a, Stream stream) {
  constexpr NormKernel held[] = {norm_held<1>, norm_held<2>, norm_held<4>};
  const RowAccess access = row_access(a.n, a.x, a.residual, a.y, a.sum, a.weight, a.bias);
  if (a.n > held_row)
    return launch(norm_long, dim3(static_cast<unsigned>(a.rows)), dim3(row_threads), 0, stream, a, access);
  const RowGroup group = row_group(a.n);
  const unsigned block = threads_of_block(group.threads);
  launch(held[group.vectors / 2], dim3(blocks_for(a.rows, block / group.threads, INT32_MAX)), dim3(block), 0, stream, a,
         group.threads, access);
}

}  // namespace mpt::cuda
