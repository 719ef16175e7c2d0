// A block goes through a chunk of rows: each of its groups of threads holds a row at a time and, from row to row, the sums
// of its columns for the gradients of weight and bias. The groups' sums are added in their order, then the chunks' in theirs.
#include "kernels/norm.h"
#include "kernels/numerics/math.h"
#include "kernels/rows.h"

namespace mpt::cuda {
namespace {

constexpr int64_t most_chunks = 256;

// ---- rows that fit: two vectors of x, dy, the weight and both sums are in registers

constexpr int grad_vectors = 2;
constexpr int64_t held_grad_row = row_threads * grad_vectors * vector_length;

struct GradPlan {
  int32_t threads, block;  // of a group, of a block
  int64_t chunk, chunks;   // rows of a block
  int vectors;
};

GradPlan grad_plan(int64_t rows, int32_t n) {
  GradPlan plan{};
  const int64_t vectors = pieces_of(n, vector_length);
  plan.vectors = vectors <= warp_size ? 1 : grad_vectors;
  plan.threads = power_of_two_from(pieces_of(vectors, plan.vectors));
  plan.block = plan.threads > 256 ? plan.threads : 256;
  if (n > held_grad_row) plan = {row_threads, row_threads, 0, 0, grad_vectors};
  // Every group gets at least four rows where there are as many, so that the sums of chunks are few beside the rows.
  const int64_t groups = plan.block / plan.threads, least = 4 * groups;
  plan.chunk = pieces_of(rows, most_chunks);
  if (plan.chunk < least) plan.chunk = least;
  plan.chunk = pieces_of(plan.chunk, groups) * groups;
  plan.chunks = pieces_of(rows, plan.chunk);
  return plan;
}

struct Pair {
  float a, b;
};

// Two sums over a group by one barrier: `room` is not the room of the call before it. 2 floats for each warp.
__device__ __forceinline__ Pair group_sum(Pair x, int32_t threads, float* room) {
  for (int distance = (threads < warp_size ? threads : warp_size) / 2; distance > 0; distance /= 2) {
    x.a += __shfl_xor_sync(full_warp, x.a, distance);
    x.b += __shfl_xor_sync(full_warp, x.b, distance);
  }
  if (threads <= warp_size) return x;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread % warp_size == 0) {
    room[thread / warp_size * 2] = x.a;
    room[thread / warp_size * 2 + 1] = x.b;
  }
  __syncthreads();
  const int warps = threads / warp_size, first = thread / threads * warps;
  Pair total{room[first * 2], room[first * 2 + 1]};
  for (int w = first + 1; w < first + warps; ++w) {
    total.a += room[w * 2];
    total.b += room[w * 2 + 1];
  }
  return total;
}

// The sums of a block's groups, added in their order, go to the chunk's part. All threads call.
template <int V, int Block>
__device__ __forceinline__ void store_part(const Row& features, const float (&sums)[V][vector_length], float* room,
                                           float* part) {
  const int thread = static_cast<int>(threadIdx.x), threads = features.threads;
  if (threads == Block) {
    store_row(part, Element::f32, features, sums);
    return;
  }
  MPT_UNROLL
  for (int j = 0; j < V; ++j) {
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k) room[(j * vector_length + k) * Block + thread] = sums[j][k];
  }
  __syncthreads();
  for (int i = thread; i < V * vector_length * threads; i += Block) {
    const int lane = i % threads, element = i / threads;
    const Row owner{0, features.n, threads, lane, features.access};
    float total = 0;
    for (int g = 0; g < Block / threads; ++g) total += room[element * Block + g * threads + lane];
    if (element < owner.held()) part[owner.index(element / vector_length, element % vector_length)] = total;
  }
  __syncthreads();
}

// Vector j of a row of FP32 numbers.
__device__ __forceinline__ void load_row_vector(const float* tensor, const Row& row, int j,
                                                float (&x)[1][vector_length]) {
  const int64_t at[1] = {row.start + row.index(j, 0)};
  const int32_t count[1] = {row.held() - j * vector_length};
  load_vectors(tensor, Element::f32, row.access == RowAccess::vector, at,
               row.access == RowAccess::scalar ? row.threads : 1, count, 0, x);
}

template <int V, int Block>
__global__ void __launch_bounds__(Block, V == 1 ? 512 / Block : 1)
    grad_held(NormGradArgs a, int32_t threads, int64_t chunk, RowAccess access) {
  MPT_SHARED(float, room, 4 * Block / warp_size);
  // A whole block as one group needs no room to add groups.
  MPT_SHARED(float, sums_room, Block == 256 ? Block * V * vector_length : 1);
  const int64_t first = blockIdx.x * chunk, last = first + chunk < a.rows ? first + chunk : a.rows;
  const int groups = Block / threads, lane = static_cast<int>(threadIdx.x) & (threads - 1);
  const int group = static_cast<int>(threadIdx.x) / threads;
  const Row features{0, a.n, threads, lane, access};
  const float count = static_cast<float>(a.n);
  float weight[V][vector_length], dweight[V][vector_length] = {}, dbias[V][vector_length] = {};
  // Blocks of 512 threads have 128 registers for each, too few to hold the weights as well: they come from the cache.
  constexpr bool held = Block <= 256;
  const bool weighted = a.weight != nullptr && a.dx != nullptr;
  if (held && weighted) load_row(a.weight, Element::f32, features, 0, weight);
  int turn = 0;
  for (int64_t begin = first; begin < last; begin += groups, turn ^= 1) {
    const int64_t number = begin + group;
    const Row row = row_of_thread(number, last, a.n, threads, access);
    const float mean = a.rms || row.n == 0 ? 0.0f : a.mean[number], rstd = row.n == 0 ? 0.0f : a.rstd[number];
    float x[V][vector_length], dy[V][vector_length];
    load_row(a.x, a.x_type, row, 0, x);
    load_row(a.dy, a.dy_type, row, 0, dy);
    MPT_UNROLL
    for (int j = 0; j < V; ++j) {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) {
        x[j][k] = (x[j][k] - mean) * rstd;
        dweight[j][k] = fused_multiply_add(dy[j][k], x[j][k], dweight[j][k]);
        dbias[j][k] += dy[j][k];
      }
    }
    if (a.dx == nullptr) continue;
    MPT_UNROLL
    for (int j = 0; j < V; ++j) {
      if (!weighted) break;
      float w[1][vector_length];
      if (!held) load_row_vector(a.weight, features, j, w);
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) dy[j][k] *= held ? weight[j][k] : w[0][k];
    }
    Pair sums{0, 0};
    MPT_UNROLL
    for (int j = 0; j < V; ++j) {
      float product[vector_length];
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) product[k] = dy[j][k] * x[j][k];
      sums.a += sum_of_vector(dy[j]);
      sums.b += sum_of_vector(product);
    }
    sums = group_sum(sums, threads, room + turn * (2 * Block / warp_size));
    const float mean_g = a.rms ? 0.0f : sums.a / count, mean_gx = sums.b / count;
    MPT_UNROLL
    for (int j = 0; j < V; ++j) {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) dy[j][k] = fused_multiply_add(-x[j][k], mean_gx, dy[j][k] - mean_g);
    }
    if (a.add != nullptr) load_row(a.add, a.add_type, row, 0, x);
    MPT_UNROLL
    for (int j = 0; j < V; ++j) {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k)
        dy[j][k] = a.add != nullptr ? fused_multiply_add(rstd, dy[j][k], x[j][k]) : rstd * dy[j][k];
    }
    store_row(a.dx, a.dx_type, row, dy);
  }
  float* part = a.parts + static_cast<int64_t>(blockIdx.x) * a.n;
  if (a.dweight != nullptr) {
    store_part<V, Block>(features, dweight, sums_room, part);
    part += static_cast<int64_t>(gridDim.x) * a.n;
  }
  if (a.dbias != nullptr) store_part<V, Block>(features, dbias, sums_room, part);
}

// ---- longer rows: the sums of columns first, as dx may overwrite what they are made of

constexpr int column_threads = 128;

__global__ void __launch_bounds__(column_threads) grad_long_columns(NormGradArgs a, int64_t chunk) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * column_threads + threadIdx.x;
  const int64_t first = blockIdx.y * chunk, last = first + chunk < a.rows ? first + chunk : a.rows;
  if (column >= a.n) return;
  float dweight = 0, dbias = 0;
  constexpr int step = 4;  // rows that are read at once
  for (int64_t row = first; row < last; row += step) {
    float x[step], dy[step];
    MPT_UNROLL
    for (int i = 0; i < step; ++i) {
      const int64_t at = (row + i < last ? row + i : row) * a.n + column;
      dy[i] = row + i < last ? load_element(a.dy, a.dy_type, at) : 0.0f;
      x[i] = load_element(a.x, a.x_type, at);
    }
    MPT_UNROLL
    for (int i = 0; i < step; ++i) {
      if (row + i >= last) break;
      const float mean = a.rms ? 0.0f : a.mean[row + i];
      dweight = fused_multiply_add(dy[i], (x[i] - mean) * a.rstd[row + i], dweight);
      dbias += dy[i];
    }
  }
  float* part = a.parts + static_cast<int64_t>(blockIdx.y) * a.n + column;
  if (a.dweight != nullptr) {
    *part = dweight;
    part += static_cast<int64_t>(gridDim.y) * a.n;
  }
  if (a.dbias != nullptr) *part = dbias;
}

// (x - mean) rstd and dy weight.
__device__ __forceinline__ void read_tile(const NormGradArgs& a, const Row& row, const Row& features, float mean,
                                          float rstd, float (&x)[grad_vectors][vector_length],
                                          float (&g)[grad_vectors][vector_length]) {
  load_row(a.x, a.x_type, row, 0, x);
  load_row(a.dy, a.dy_type, row, 0, g);
  float weight[grad_vectors][vector_length];
  if (a.weight != nullptr) load_row(a.weight, Element::f32, features, 0, weight);
  MPT_UNROLL
  for (int j = 0; j < grad_vectors; ++j) {
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k) {
      x[j][k] = (x[j][k] - mean) * rstd;
      if (a.weight != nullptr) g[j][k] *= weight[j][k];
    }
  }
}

__global__ void __launch_bounds__(row_threads) grad_long_rows(NormGradArgs a, RowAccess access) {
  MPT_SHARED(float, room, 2 * row_threads / warp_size);
  constexpr int32_t tile = row_threads * grad_vectors * vector_length;
  const int64_t number = blockIdx.x;
  const Row row = row_of_thread(number, a.rows, a.n, row_threads, access);
  const Row features{0, a.n, row_threads, row.lane, access};
  const float mean = a.rms ? 0.0f : a.mean[number], rstd = a.rstd[number], count = static_cast<float>(a.n);
  float x[grad_vectors][vector_length], g[grad_vectors][vector_length];
  Pair sums{0, 0};
  for (int32_t begin = 0; begin < a.n; begin += tile) {
    read_tile(a, row.from(begin), features.from(begin), mean, rstd, x, g);
    MPT_UNROLL
    for (int j = 0; j < grad_vectors; ++j) {
      float product[vector_length];
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) product[k] = g[j][k] * x[j][k];
      sums.a += sum_of_vector(g[j]);
      sums.b += sum_of_vector(product);
    }
  }
  sums = group_sum(sums, row_threads, room);
  const float mean_g = a.rms ? 0.0f : sums.a / count, mean_gx = sums.b / count;
  for (int32_t begin = 0; begin < a.n; begin += tile) {
    const Row part = row.from(begin);
    read_tile(a, part, features.from(begin), mean, rstd, x, g);
    float add[grad_vectors][vector_length];
    if (a.add != nullptr) load_row(a.add, a.add_type, part, 0, add);
    MPT_UNROLL
    for (int j = 0; j < grad_vectors; ++j) {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) {
        const float rest = fused_multiply_add(-x[j][k], mean_gx, g[j][k] - mean_g);
        g[j][k] = a.add != nullptr ? fused_multiply_add(rstd, rest, add[j][k]) : rstd * rest;
      }
    }
    store_row(a.dx, a.dx_type, part, g);
  }
}

// ---- the sum of chunks

constexpr int part_lines = 8;

// out[i] = the sum over parts of parts[part * n + i]: eight runs of parts, each in order, then the runs in theirs.
__global__ void __launch_bounds__(part_lines* warp_size)
    add_parts(const float* parts, int64_t count, int32_t n, float* out) {
  MPT_SHARED(float, sums, part_lines* warp_size);
  const int lane = threadIdx.x % warp_size, line = threadIdx.x / warp_size;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * warp_size + lane;
  const int64_t run = (count + part_lines - 1) / part_lines, first = line * run;
  const int64_t last = first + run < count ? first + run : count;
  float sum = 0;
  if (column < n) {
    constexpr int step = 8;  // parts that are read at once
    for (int64_t part = first; part < last; part += step) {
      float x[step];
      MPT_UNROLL
      for (int i = 0; i < step; ++i) x[i] = part + i < last ? parts[(part + i) * n + column] : 0.0f;
      MPT_UNROLL
      for (int i = 0; i < step; ++i) sum += x[i];
    }
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (line > 0 || column >= n) return;
  for (int i = 1; i < part_lines; ++i) sum += sums[i * warp_size + lane];
  out[column] = sum;
}

}  // namespace

int64_t norm_grad_parts(int64_t rows, int32_t n) { return grad_plan(rows, n).chunks * n; }

void norm_grad(const NormGradArgs& a, Stream stream) {
  const GradPlan plan = grad_plan(a.rows, a.n);
  const bool sums = a.dweight != nullptr || a.dbias != nullptr;
  const RowAccess access = row_access(a.n, a.x, a.dy, a.add, a.weight, a.dx, a.parts);
  const dim3 grid(static_cast<unsigned>(plan.chunks)), block(static_cast<unsigned>(plan.block));
  if (a.n > held_grad_row) {
    const dim3 columns(blocks_for(a.n, column_threads), static_cast<unsigned>(plan.chunks));
    if (sums) launch(grad_long_columns, columns, dim3(column_threads), 0, stream, a, plan.chunk);
    if (a.dx != nullptr)
      launch(grad_long_rows, dim3(static_cast<unsigned>(a.rows)), dim3(row_threads), 0, stream, a, access);
  } else if (plan.block > 256) {
    launch(grad_held<grad_vectors, 512>, grid, block, 0, stream, a, plan.threads, plan.chunk, access);
  } else {
    launch(plan.vectors == 1 ? grad_held<1, 256> : grad_held<grad_vectors, 256>, grid, block, 0, stream, a,
           plan.threads, plan.chunk, access);
  }
  const float* parts = a.parts;
  for (float* out : {a.dweight, a.dbias}) {
    if (out == nullptr) continue;
    launch(add_parts, dim3(blocks_for(a.n, warp_size)), dim3(part_lines * warp_size), 0, stream, parts, plan.chunks,
           a.n, out);
    parts += plan.chunks * a.n;
  }
}

}  // namespace mpt::cuda
