// Forward, a group of threads reads a row once and keeps the largest logit and the sum of exponentials relative to it; the
// losses of the rows are added in double in a fixed order. Backward, the softmax is formed again from the logits.
#include "kernels/cross_entropy.h"

#include "kernels/numerics/math.h"
#include "kernels/online_sum.h"
#include "kernels/rows.h"

namespace mpt::cuda {
namespace {

__device__ __forceinline__ float minus_infinity() { return float_of(0xff800000u); }
__device__ __forceinline__ float not_a_number() { return float_of(0x7fc00000u); }

// ---- the rows' losses

constexpr int loss_threads = 256;  // most of a block

template <int V>
__global__ void __launch_bounds__(loss_threads)
    row_losses(CrossEntropyArgs a, float* losses, int32_t threads, RowAccess access) {
  MPT_SHARED(float, room, loss_threads / warp_size);
  const int64_t number = static_cast<int64_t>(blockIdx.x) * (blockDim.x / threads) + threadIdx.x / threads;
  const Row row = row_of_thread(number, a.rows, a.classes, threads, access);
  const int32_t tile = threads * V * vector_length;
  OnlineSum online = empty_online_sum();
  float sum_of_logits = 0;
  for (int32_t begin = 0; begin < a.classes; begin += tile) {
    const Row part = row.from(begin);
    float x[V][vector_length];
    load_row(a.logits, a.logits_type, part, minus_infinity(), x);
    online.add(x);
    if (a.smoothing == 0) continue;
    const int32_t held = part.held();
    MPT_UNROLL
    for (int j = 0; j < V; ++j) {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) x[j][k] = j * vector_length + k < held ? x[j][k] : 0.0f;
      sum_of_logits += sum_of_vector(x[j]);
    }
  }
  const float top = group_reduce(Larger{}, online.top, threads, room);
  const float sum = group_reduce(Sum{}, online.relative_to(top), threads, room);
  if (a.smoothing != 0) sum_of_logits = group_reduce(Sum{}, sum_of_logits, threads, room);
  if (row.lane > 0 || row.n == 0) return;
  const float logsumexp = top + log_f32(sum);
  a.logsumexp[number] = logsumexp;
  const int32_t label = a.labels[number];
  float loss = 0;
  if (label != a.ignore_index) {
    if (label < 0 || label >= a.classes) {
      loss = not_a_number();
    } else {
      loss = (1 - a.smoothing) * (logsumexp - load_element(a.logits, a.logits_type, row.start + label));
      if (a.smoothing != 0) loss += a.smoothing * (logsumexp - sum_of_logits / static_cast<float>(a.classes));
    }
  }
  losses[number] = loss;
}

// ---- their sum

struct LossPart {
  double sum;
  int64_t counted;
};

constexpr int sum_threads = 256;
constexpr int64_t most_parts = 256, least_rows = 4096;

int64_t rows_of_part(int64_t rows) {
  const int64_t part = pieces_of(rows, most_parts);
  return part < least_rows ? least_rows : part;
}

// The sum over a block's threads, to the first of them.
__device__ __forceinline__ LossPart sum_of_block(LossPart x) {
  MPT_SHARED(double, sums, sum_threads / warp_size);
  MPT_SHARED(int64_t, counts, sum_threads / warp_size);
  return {block_reduce(Sum{}, x.sum, sums), block_reduce(Sum{}, x.counted, counts)};
}

__device__ __forceinline__ void finish(const CrossEntropyArgs& a, const LossPart& all) {
  const double weight = !a.mean ? 1 : all.counted == 0 ? 0 : 1 / static_cast<double>(all.counted);
  *a.loss = static_cast<float>(all.sum * weight);
  *a.weight = static_cast<float>(weight);
}

__global__ void __launch_bounds__(sum_threads)
    sum_losses(CrossEntropyArgs a, const float* losses, int64_t part, LossPart* parts) {
  const int64_t first = blockIdx.x * part, last = first + part < a.rows ? first + part : a.rows;
  LossPart mine{0, 0};
  for (int64_t row = first + threadIdx.x; row < last; row += sum_threads) {
    mine.sum += losses[row];
    mine.counted += a.labels[row] != a.ignore_index;
  }
  mine = sum_of_block(mine);
  if (threadIdx.x > 0) return;
  if (gridDim.x == 1)
    finish(a, mine);
  else
    parts[blockIdx.x] = mine;
}

__global__ void __launch_bounds__(sum_threads) sum_parts(CrossEntropyArgs a, const LossPart* parts, int32_t count) {
  LossPart mine{0, 0};
  if (static_cast<int32_t>(threadIdx.x) < count) mine = parts[threadIdx.x];
  mine = sum_of_block(mine);
  if (threadIdx.x == 0) finish(a, mine);
}

// ---- the gradient: factor * (softmax - target)

constexpr int grad_threads = 256, grad_vectors = 2;
constexpr int32_t segment = grad_threads * grad_vectors * vector_length;  // of a row, for one block

template <int V>
__global__ void __launch_bounds__(grad_threads)
    row_gradients(CrossEntropyArgs a, int32_t threads, int32_t segments, RowAccess access) {
  const int64_t unit = static_cast<int64_t>(blockIdx.x) * (blockDim.x / threads) + threadIdx.x / threads;
  const int64_t number = unit / segments;
  const int32_t begin = static_cast<int32_t>(unit % segments) * segment;
  const Row row = row_of_thread(number, a.rows, a.classes, threads, access).from(begin);
  if (row.n == 0) return;
  float x[V][vector_length];
  const int32_t label = a.labels[number];
  const bool ignored = label == a.ignore_index, valid = label >= 0 && label < a.classes;
  if (ignored) {
    MPT_UNROLL
    for (int j = 0; j < V; ++j) {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) x[j][k] = 0;
    }
    return store_row(a.dlogits, a.dlogits_type, row, x);
  }
  load_row(a.logits, a.logits_type, row, 0, x);
  const float logsumexp = valid ? a.row_logsumexp[number] : not_a_number();
  const float factor = *a.row_weight * *a.dloss;
  const float uniform = a.smoothing / static_cast<float>(a.classes), hit = 1 - a.smoothing;
  const int32_t position = valid ? row.position_of(label - begin) : -1;
  MPT_UNROLL
  for (int j = 0; j < V; ++j) {
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k) {
      const float p = exp_f32(x[j][k] - logsumexp);
      x[j][k] = factor * ((j * vector_length + k == position ? p - hit : p) - uniform);
    }
  }
  store_row(a.dlogits, a.dlogits_type, row, x);
}

}  // namespace

uint64_t cross_entropy_scratch(int64_t rows) {
  return most_parts * sizeof(LossPart) + static_cast<uint64_t>(rows) * sizeof(float);
}

void cross_entropy(const CrossEntropyArgs& a, Stream stream) {
  LossPart* parts = static_cast<LossPart*>(a.scratch);
  float* losses = reinterpret_cast<float*>(parts + most_parts);
  const int64_t vectors = pieces_of(a.classes, vector_length);
  const int32_t threads = vectors <= warp_size       ? power_of_two_from(vectors)
                          : vectors <= 8 * warp_size ? warp_size
                                                     : loss_threads;
  const unsigned block = threads_of_block(threads);
  const dim3 grid(blocks_for(a.rows, block / threads, INT32_MAX));
  const RowAccess access = row_access(a.classes, a.logits);
  launch(vectors <= warp_size ? row_losses<1> : row_losses<2>, grid, dim3(block), 0, stream, a, losses, threads,
         access);
  const int64_t part = rows_of_part(a.rows), count = pieces_of(a.rows, part);
  launch(sum_losses, dim3(static_cast<unsigned>(count)), dim3(sum_threads), 0, stream, a, losses, part, parts);
  if (count > 1) launch(sum_parts, dim3(1), dim3(sum_threads), 0, stream, a, parts, static_cast<int32_t>(count));
}

void cross_entropy_grad(const CrossEntropyArgs& a, Stream stream) {
  const int64_t vectors = pieces_of(a.classes, vector_length), held = vectors <= warp_size ? 1 : grad_vectors;
  int32_t threads = power_of_two_from(pieces_of(vectors, held));
  if (threads > grad_threads) threads = grad_threads;
  const int32_t segments = static_cast<int32_t>(pieces_of(a.classes, segment));
  const unsigned block = threads_of_block(threads);
  const dim3 grid(blocks_for(a.rows * segments, block / threads, INT32_MAX));
  const RowAccess access = row_access(a.classes, a.logits, a.dlogits);
  launch(held == 1 ? row_gradients<1> : row_gradients<grad_vectors>, grid, dim3(block), 0, stream, a, threads, segments,
         access);
}

}  // namespace mpt::cuda
