// Along the last axis a group of threads holds a row in registers and reads it once; rows that don't fit are read twice, the
// second time mostly from the cache. Along another axis a thread goes down a column, 32 neighbouring columns in a warp.
#include "kernels/softmax.h"

#include "kernels/numerics/math.h"
#include "kernels/online_sum.h"
#include "kernels/rows.h"

namespace mpt::cuda {
namespace {

__device__ __forceinline__ float minus_infinity() { return float_of(0xff800000u); }

// dx = y (dy - sum(y dy)); of log-softmax dy - exp(y) sum(dy).
__device__ __forceinline__ float term_of_sum(bool log, float y, float dy) { return log ? dy : y * dy; }
__device__ __forceinline__ float gradient(bool log, float y, float dy, float sum) {
  return log ? fused_multiply_add(-exp_f32(y), sum, dy) : y * (dy - sum);
}

template <int V>
__device__ __forceinline__ float sum_of_terms(bool log, const float (&y)[V][vector_length],
                                              const float (&dy)[V][vector_length]) {
  float sum = 0;
  MPT_UNROLL
  for (int j = 0; j < V; ++j) {
    float term[vector_length];
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k) term[k] = term_of_sum(log, y[j][k], dy[j][k]);
    sum += sum_of_vector(term);
  }
  return sum;
}

// ---- along the last axis

template <int V>
__global__ void __launch_bounds__(row_threads) rows_held(SoftmaxArgs a, int32_t threads, RowAccess access) {
  MPT_SHARED(float, room, row_threads / warp_size);
  const int64_t number = static_cast<int64_t>(blockIdx.x) * (blockDim.x / threads) + threadIdx.x / threads;
  const Row row = row_of_thread(number, a.outer, a.n, threads, access);
  float x[V][vector_length];
  load_row(a.x, a.x_type, row, minus_infinity(), x);
  float top = minus_infinity();
  MPT_UNROLL
  for (int j = 0; j < V; ++j) {
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k) top = fmaxf(top, x[j][k]);
  }
  top = group_reduce(Larger{}, top, threads, room);
  // What lies beyond the row has the exponential 0; a group without a row has no use for its sum.
  float sum = 0;
  MPT_UNROLL
  for (int j = 0; j < V; ++j) {
    float e[vector_length];
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k) {
      x[j][k] -= top;
      e[k] = exp_f32(x[j][k]);
      if (!a.log) x[j][k] = e[k];
    }
    sum += sum_of_vector(e);
  }
  sum = group_reduce(Sum{}, sum, threads, room);
  const float last = a.log ? log_f32(sum) : 1 / sum;
  MPT_UNROLL
  for (int j = 0; j < V; ++j) {
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k) x[j][k] = a.log ? x[j][k] - last : x[j][k] * last;
  }
  store_row(a.out, a.out_type, row, x);
}

template <int V>
__global__ void __launch_bounds__(row_threads) rows_held_grad(SoftmaxArgs a, int32_t threads, RowAccess access) {
  MPT_SHARED(float, room, row_threads / warp_size);
  const int64_t number = static_cast<int64_t>(blockIdx.x) * (blockDim.x / threads) + threadIdx.x / threads;
  const Row row = row_of_thread(number, a.outer, a.n, threads, access);
  float y[V][vector_length], dy[V][vector_length];
  load_row(a.x, a.x_type, row, 0, y);
  load_row(a.dy, a.dy_type, row, 0, dy);
  const float sum = group_reduce(Sum{}, sum_of_terms(a.log, y, dy), threads, room);
  MPT_UNROLL
  for (int j = 0; j < V; ++j) {
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k) dy[j][k] = gradient(a.log, y[j][k], dy[j][k], sum);
  }
  store_row(a.out, a.out_type, row, dy);
}

constexpr int tile_vectors = 2;
constexpr int32_t tile = row_threads * tile_vectors * vector_length;  // elements that a block has in registers

__global__ void __launch_bounds__(row_threads) rows_long(SoftmaxArgs a, RowAccess access) {
  MPT_SHARED(float, room, row_threads / warp_size);
  const Row row = row_of_thread(blockIdx.x, a.outer, a.n, row_threads, access);
  float x[tile_vectors][vector_length];
  OnlineSum online = empty_online_sum();
  for (int32_t begin = 0; begin < a.n; begin += tile) {
    load_row(a.x, a.x_type, row.from(begin), minus_infinity(), x);
    online.add(x);
  }
  const float top = group_reduce(Larger{}, online.top, row_threads, room);
  const float sum = group_reduce(Sum{}, online.relative_to(top), row_threads, room);
  const float last = a.log ? log_f32(sum) : 1 / sum;
  for (int32_t begin = 0; begin < a.n; begin += tile) {
    const Row part = row.from(begin);
    load_row(a.x, a.x_type, part, minus_infinity(), x);
    MPT_UNROLL
    for (int j = 0; j < tile_vectors; ++j) {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) x[j][k] = a.log ? (x[j][k] - top) - last : exp_f32(x[j][k] - top) * last;
    }
    store_row(a.out, a.out_type, part, x);
  }
}

__global__ void __launch_bounds__(row_threads) rows_long_grad(SoftmaxArgs a, RowAccess access) {
  MPT_SHARED(float, room, row_threads / warp_size);
  const Row row = row_of_thread(blockIdx.x, a.outer, a.n, row_threads, access);
  float y[tile_vectors][vector_length], dy[tile_vectors][vector_length];
  float sum = 0;
  for (int32_t begin = 0; begin < a.n; begin += tile) {
    load_row(a.x, a.x_type, row.from(begin), 0, y);
    load_row(a.dy, a.dy_type, row.from(begin), 0, dy);
    sum += sum_of_terms(a.log, y, dy);
  }
  sum = group_reduce(Sum{}, sum, row_threads, room);
  for (int32_t begin = 0; begin < a.n; begin += tile) {
    const Row part = row.from(begin);
    load_row(a.x, a.x_type, part, 0, y);
    load_row(a.dy, a.dy_type, part, 0, dy);
    MPT_UNROLL
    for (int j = 0; j < tile_vectors; ++j) {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) dy[j][k] = gradient(a.log, y[j][k], dy[j][k], sum);
    }
    store_row(a.out, a.out_type, part, dy);
  }
}

// ---- along another axis

constexpr int most_lines = 16;  // warps of a block, which share the columns

// A thread's column: n elements that lie `inner` apart. It takes eight of them at a time.
struct Column {
  int64_t start, inner;
  int32_t n;

  __device__ __forceinline__ void load(const void* tensor, Element type, int32_t first, float fill,
                                       float (&x)[1][vector_length]) const {
    int64_t at[vector_length];
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k) at[k] = start + (first + k) * inner;
    load_elements(tensor, type, at, n - first, fill, x[0]);
  }
  __device__ __forceinline__ void store(void* tensor, Element type, int32_t first,
                                        const float (&x)[1][vector_length]) const {
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k)
      if (first + k < n) store_element(tensor, type, start + (first + k) * inner, x[0][k]);
  }
};

__device__ __forceinline__ Column column_of_thread(const SoftmaxArgs& a) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * warp_size + threadIdx.x % warp_size;
  if (column >= a.outer * a.inner) return {0, 0, 0};
  return {column / a.inner * a.n * a.inner + column % a.inner, a.inner, a.n};
}

__global__ void __launch_bounds__(most_lines* warp_size) columns(SoftmaxArgs a) {
  MPT_SHARED(float, tops, most_lines* warp_size);
  MPT_SHARED(float, sums, most_lines* warp_size);
  const int lane = threadIdx.x % warp_size, line = threadIdx.x / warp_size, lines = blockDim.x / warp_size;
  const Column column = column_of_thread(a);
  float x[1][vector_length];
  OnlineSum online = empty_online_sum();
  for (int32_t first = line * vector_length; first < column.n; first += lines * vector_length) {
    column.load(a.x, a.x_type, first, minus_infinity(), x);
    online.add(x);
  }
  tops[threadIdx.x] = online.top;
  sums[threadIdx.x] = online.sum;
  __syncthreads();
  float top = minus_infinity(), sum = 0;
  for (int i = 0; i < lines; ++i) top = Larger{}(tops[i * warp_size + lane], top);
  for (int i = 0; i < lines; ++i)
    sum += OnlineSum{tops[i * warp_size + lane], sums[i * warp_size + lane]}.relative_to(top);
  const float last = a.log ? log_f32(sum) : 1 / sum;
  for (int32_t first = line * vector_length; first < column.n; first += lines * vector_length) {
    column.load(a.x, a.x_type, first, minus_infinity(), x);
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k) x[0][k] = a.log ? (x[0][k] - top) - last : exp_f32(x[0][k] - top) * last;
    column.store(a.out, a.out_type, first, x);
  }
}

__global__ void __launch_bounds__(most_lines* warp_size) columns_grad(SoftmaxArgs a) {
  MPT_SHARED(float, sums, most_lines* warp_size);
  const int lane = threadIdx.x % warp_size, line = threadIdx.x / warp_size, lines = blockDim.x / warp_size;
  const Column column = column_of_thread(a);
  float y[1][vector_length], dy[1][vector_length];
  float sum = 0;
  for (int32_t first = line * vector_length; first < column.n; first += lines * vector_length) {
    column.load(a.x, a.x_type, first, 0, y);
    column.load(a.dy, a.dy_type, first, 0, dy);
    sum += sum_of_terms(a.log, y, dy);
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  sum = 0;
  for (int i = 0; i < lines; ++i) sum += sums[i * warp_size + lane];
  for (int32_t first = line * vector_length; first < column.n; first += lines * vector_length) {
    column.load(a.x, a.x_type, first, 0, y);
    column.load(a.dy, a.dy_type, first, 0, dy);
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k) dy[0][k] = gradient(a.log, y[0][k], dy[0][k], sum);
    column.store(a.out, a.out_type, first, dy);
  }
}

using RowsKernel = void (*)(SoftmaxArgs, int32_t, RowAccess);

void launch_held(const RowsKernel (&kernels)[3], const SoftmaxArgs& a, RowAccess access, Stream stream) {
  const RowGroup group = row_group(a.n);
  const unsigned block = threads_of_block(group.threads);
  launch(kernels[group.vectors / 2], dim3(blocks_for(a.outer, block / group.threads, INT32_MAX)), dim3(block), 0,
         stream, a, group.threads, access);
}

template <typename Kernel>
void launch_columns(Kernel kernel, const SoftmaxArgs& a, Stream stream) {
  int lines = power_of_two_from(pieces_of(a.n, vector_length));
  if (lines > most_lines) lines = most_lines;
  launch(kernel, dim3(blocks_for(a.outer * a.inner, warp_size, INT32_MAX)), dim3(lines * warp_size), 0, stream, a);
}

}  // namespace

void softmax(const SoftmaxArgs& a, Stream stream) {
  constexpr RowsKernel held[] = {rows_held<1>, rows_held<2>, rows_held<4>};
  if (a.inner > 1) return launch_columns(columns, a, stream);
  const RowAccess access = row_access(a.n, a.x, a.out);
  if (a.n <= held_row) return launch_held(held, a, access, stream);
  launch(rows_long, dim3(static_cast<unsigned>(a.outer)), dim3(row_threads), 0, stream, a, access);
}

void softmax_grad(const SoftmaxArgs& a, Stream stream) {
  constexpr RowsKernel held[] = {rows_held_grad<1>, rows_held_grad<2>, rows_held_grad<4>};
  if (a.inner > 1) return launch_columns(columns_grad, a, stream);
  const RowAccess access = row_access(a.n, a.x, a.dy, a.out);
  if (a.n <= held_row) return launch_held(held, a, access, stream);
  launch(rows_long_grad, dim3(static_cast<unsigned>(a.outer)), dim3(row_threads), 0, stream, a, access);
}

}  // namespace mpt::cuda
