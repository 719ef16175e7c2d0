#include "kernels/attention.h"
#include "kernels/attention_tiles.h"
#include "kernels/numerics/math.h"

namespace mpt::cuda {
namespace {

// Scores are made again and become probabilities p by the stored logsumexp. With dp = dout v^T, delta = sum(dout out) and
// ds = scale p (dp - delta) the gradients are dq = ds k, dk = ds^T q and dv = p^T dout. Two kernels: dq by blocks of queries,
// dk and dv by blocks of keys, each adding up in the order of the other side's blocks.

// rows: of the block's own side; columns: of the other side, a step.
template <int D>
struct Tiling {
  static constexpr int rows_per_thread = D > 64 ? 4 : 8, rows = 8 * rows_per_thread, columns = D > 64 ? 32 : 64;
  static constexpr int columns_per_thread = D / attention_x;
  static constexpr int blocks = D > 64 ? 3 : 2;  // a multiprocessor holds
  static constexpr int floats = 2 * (rows + columns) * padded(D) + rows * padded(columns);
};

// delta[b, h, t] = out . dout, a warp for each.
__global__ void __launch_bounds__(attention_threads) delta_kernel(AttentionGradArgs args, int64_t rows) {
  const AttentionShape& s = args.shape;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  constexpr int warps = attention_threads / warp_size;
  for (int64_t row = blockIdx.x * static_cast<int64_t>(warps) + threadIdx.x / warp_size; row < rows;
       row += gridDim.x * static_cast<int64_t>(warps)) {
    const int64_t h = row % s.heads, t = row / s.heads % s.queries, b = row / s.heads / s.queries;
    const int64_t out = b * args.out.batch + t * args.out.time + h * s.head_size;
    const int64_t dout = b * args.dout.batch + t * args.dout.time + h * s.head_size;
    float sum = 0;
    for (int d = lane; d < s.head_size; d += warp_size) {
      sum = fused_multiply_add(load_element(args.out.data, args.out.type, out + d),
                               load_element(args.dout.data, args.dout.type, dout + d), sum);
    }
    sum = warp_reduce(Sum(), sum);
    if (lane == 0) args.delta[(b * s.heads + h) * s.queries + t] = sum;
  }
}

// What exp's argument is diminished by; a row that saw no key has probability 0 everywhere.
__device__ __forceinline__ float base_of(float logsumexp) { return logsumexp == -infinity ? infinity : logsumexp; }

template <int D>
__global__ void __launch_bounds__(attention_threads, Tiling<D>::blocks)
    query_gradient_kernel(AttentionGradArgs args, int64_t tasks) {
  using T = Tiling<D>;
  constexpr int R = T::rows_per_thread, N = T::columns / attention_x, C = T::columns_per_thread;
  MPT_DYNAMIC_SHARED(float, shared);
  float* const q_tile = shared;
  float* const dout_tile = q_tile + T::rows * padded(D);
  float* const k_tile = dout_tile + T::rows * padded(D);
  float* const v_tile = k_tile + T::columns * padded(D);
  float* const ds_tile = v_tile + T::columns * padded(D);

  const AttentionShape& s = args.shape;
  const int x = static_cast<int>(threadIdx.x) % attention_x, y = static_cast<int>(threadIdx.x) / attention_x;
  const int chunks = (s.head_size + D - 1) / D, query_blocks = (s.queries + T::rows - 1) / T::rows;
  for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
    const int own = static_cast<int>(task % chunks);
    const int query = (query_blocks - 1 - static_cast<int>(task / chunks % query_blocks)) * T::rows;
    const int64_t head = task / chunks / query_blocks;
    const int b = static_cast<int>(head / s.heads), h = static_cast<int>(head % s.heads);
    const int64_t kv_column = static_cast<int64_t>(h / (s.heads / s.kv_heads)) * s.head_size;
    const int64_t q_column = static_cast<int64_t>(h) * s.head_size;
    const int rows = smaller(s.queries - query, T::rows);
    const Sight sight(s, b, h);
    const int key_end = sight.causal ? smaller(sight.key_end, query + rows) : sight.key_end;

    float dq[R][C], base[R], delta[R];
    MPT_UNROLL
    for (int r = 0; r < R; ++r) {
      const bool inside = y * R + r < rows;
      const int64_t at = head * s.queries + query + y * R + r;
      base[r] = inside ? base_of(args.logsumexp[at]) : infinity;
      delta[r] = inside ? args.delta[at] : 0.0f;
      MPT_UNROLL
      for (int c = 0; c < C; ++c) dq[r][c] = 0;
    }
    for (int key = 0; key < key_end; key += T::columns) {
      const int count = smaller(key_end - key, T::columns);
      float scores[R][N], dp[R][N];
      MPT_UNROLL
      for (int r = 0; r < R; ++r) {
        MPT_UNROLL
        for (int n = 0; n < N; ++n) scores[r][n] = dp[r][n] = 0;
      }
      MPT_NO_UNROLL
      for (int i = 1; i <= chunks; ++i) {
        const int chunk = (own + i) % chunks;  // ends with the block's own, whose keys the gradient needs
        const int columns = smaller(s.head_size - chunk * D, D);
        __syncthreads();  // nobody reads the last tiles any more
        if (chunks > 1 || key == 0) {
          load_tile<T::rows, D>(q_tile, args.q, b * args.q.batch + query * args.q.time + q_column + chunk * D, rows,
                                columns);
          load_tile<T::rows, D>(dout_tile, args.dout,
                                b * args.dout.batch + query * args.dout.time + q_column + chunk * D, rows, columns);
        }
        load_tile<T::columns, D>(k_tile, args.k, b * args.k.batch + key * args.k.time + kv_column + chunk * D, count,
                                 columns);
        load_tile<T::columns, D>(v_tile, args.v, b * args.v.batch + key * args.v.time + kv_column + chunk * D, count,
                                 columns);
        __syncthreads();
        multiply_rows<D>(scores, q_tile + y * R * padded(D), k_tile + x * padded(D), columns);
        multiply_rows<D>(dp, dout_tile + y * R * padded(D), v_tile + x * padded(D), columns);
      }
      const bool all = sight.sees_all(query, T::rows, key, T::columns);
      MPT_UNROLL
      for (int r = 0; r < R; ++r) {
        MPT_UNROLL
        for (int n = 0; n < N; ++n) {
          float p = exp_f32(fused_multiply_add(scores[r][n], s.scale, -base[r]));
          if (!all && !sight.sees(query + y * R + r, key + x + n * attention_x)) p = 0;
          ds_tile[(y * R + r) * padded(T::columns) + x + n * attention_x] = s.scale * (p * (dp[r][n] - delta[r]));
        }
      }
      __syncwarp();
      multiply_columns<T::columns, D>(dq, ds_tile + y * R * padded(T::columns), k_tile + first_column<C>(x), count);
    }
    store_sums(dq, args.dq, b * args.dq.batch + query * args.dq.time + q_column + own * D, rows,
               smaller(s.head_size - own * D, D));
  }
}

// Rows of the tiles are keys here, columns are queries: of all heads that share the keys, one head after the other.
template <int D>
__global__ void __launch_bounds__(attention_threads, Tiling<D>::blocks)
    key_gradient_kernel(AttentionGradArgs args, int64_t tasks) {
  using T = Tiling<D>;
  constexpr int R = T::rows_per_thread, N = T::columns / attention_x, C = T::columns_per_thread;
  MPT_DYNAMIC_SHARED(float, shared);
  float* const k_tile = shared;
  float* const v_tile = k_tile + T::rows * padded(D);
  float* const q_tile = v_tile + T::rows * padded(D);
  float* const dout_tile = q_tile + T::columns * padded(D);
  float* const weights = dout_tile + T::columns * padded(D);

  const AttentionShape& s = args.shape;
  const int x = static_cast<int>(threadIdx.x) % attention_x, y = static_cast<int>(threadIdx.x) / attention_x;
  const int chunks = (s.head_size + D - 1) / D, key_blocks = (s.keys + T::rows - 1) / T::rows;
  const int group = s.heads / s.kv_heads;
  for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
    const int own = static_cast<int>(task % chunks);
    const int key = static_cast<int>(task / chunks % key_blocks) * T::rows;
    const int64_t kv = task / chunks / key_blocks;
    const int b = static_cast<int>(kv / s.kv_heads), kv_head = static_cast<int>(kv % s.kv_heads);
    const int64_t kv_column = static_cast<int64_t>(kv_head) * s.head_size;

    float dk[R][C], dv[R][C];
    MPT_UNROLL
    for (int r = 0; r < R; ++r) {
      MPT_UNROLL
      for (int c = 0; c < C; ++c) dk[r][c] = dv[r][c] = 0;
    }
    bool loaded = false;
    for (int h = kv_head * group; h < (kv_head + 1) * group; ++h) {
      const Sight sight(s, b, h);
      const int rows = smaller(sight.key_end - key, T::rows);
      if (rows <= 0) break;  // the whole block lies beyond the item's length
      const int64_t q_column = static_cast<int64_t>(h) * s.head_size;
      const int64_t statistics = (static_cast<int64_t>(b) * s.heads + h) * s.queries;
      for (int query = sight.causal ? key / T::columns * T::columns : 0; query < s.queries; query += T::columns) {
        const int count = smaller(s.queries - query, T::columns);
        float scores[R][N], dp[R][N];
        MPT_UNROLL
        for (int r = 0; r < R; ++r) {
          MPT_UNROLL
          for (int n = 0; n < N; ++n) scores[r][n] = dp[r][n] = 0;
        }
        MPT_NO_UNROLL
        for (int i = 1; i <= chunks; ++i) {
          const int chunk = (own + i) % chunks;  // ends with the block's own, whose rows the gradients need
          const int columns = smaller(s.head_size - chunk * D, D);
          __syncthreads();  // nobody reads the last tiles any more
          if (chunks > 1 || !loaded) {
            load_tile<T::rows, D>(k_tile, args.k, b * args.k.batch + key * args.k.time + kv_column + chunk * D, rows,
                                  columns);
            load_tile<T::rows, D>(v_tile, args.v, b * args.v.batch + key * args.v.time + kv_column + chunk * D, rows,
                                  columns);
            loaded = true;
          }
          load_tile<T::columns, D>(q_tile, args.q, b * args.q.batch + query * args.q.time + q_column + chunk * D, count,
                                   columns);
          load_tile<T::columns, D>(dout_tile, args.dout,
                                   b * args.dout.batch + query * args.dout.time + q_column + chunk * D, count, columns);
          __syncthreads();
          multiply_rows<D>(scores, k_tile + y * R * padded(D), q_tile + x * padded(D), columns);
          multiply_rows<D>(dp, v_tile + y * R * padded(D), dout_tile + x * padded(D), columns);
        }
        const bool all = sight.sees_all(query, T::columns, key, T::rows);
        MPT_UNROLL
        for (int n = 0; n < N; ++n) {
          const int column = x + n * attention_x;
          const float base = column < count ? base_of(args.logsumexp[statistics + query + column]) : infinity;
          const float delta = column < count ? args.delta[statistics + query + column] : 0.0f;
          MPT_UNROLL
          for (int r = 0; r < R; ++r) {
            float p = exp_f32(fused_multiply_add(scores[r][n], s.scale, -base));
            if (!all && !sight.sees(query + column, key + y * R + r)) p = 0;
            weights[(y * R + r) * padded(T::columns) + column] = p;
            scores[r][n] = s.scale * (p * (dp[r][n] - delta));
          }
        }
        __syncwarp();
        multiply_columns<T::columns, D>(dv, weights + y * R * padded(T::columns), dout_tile + first_column<C>(x),
                                        count);
        __syncwarp();
        MPT_UNROLL
        for (int r = 0; r < R; ++r) {
          MPT_UNROLL
          for (int n = 0; n < N; ++n) weights[(y * R + r) * padded(T::columns) + x + n * attention_x] = scores[r][n];
        }
        __syncwarp();
        multiply_columns<T::columns, D>(dk, weights + y * R * padded(T::columns), q_tile + first_column<C>(x), count);
      }
    }
    const int rows = smaller(s.keys - key, T::rows), columns = smaller(s.head_size - own * D, D);
    if (args.dk.data != nullptr)
      store_sums(dk, args.dk, b * args.dk.batch + key * args.dk.time + kv_column + own * D, rows, columns);
    if (args.dv.data != nullptr)
      store_sums(dv, args.dv, b * args.dv.batch + key * args.dv.time + kv_column + own * D, rows, columns);
  }
}

template <int D>
void launch_gradients(const AttentionGradArgs& args, Stream stream) {
  using T = Tiling<D>;
  const AttentionShape& s = args.shape;
  constexpr std::size_t bytes = T::floats * sizeof(float);
  const int64_t chunks = (s.head_size + D - 1) / D;
  const int64_t query_tasks = static_cast<int64_t>(s.batch) * s.heads * ((s.queries + T::rows - 1) / T::rows) * chunks;
  const int64_t key_tasks = static_cast<int64_t>(s.batch) * s.kv_heads * ((s.keys + T::rows - 1) / T::rows) * chunks;
  if (args.dq.data != nullptr && query_tasks > 0) {
    allow_shared_memory(query_gradient_kernel<D>, bytes);
    launch(query_gradient_kernel<D>, dim3(blocks_for(query_tasks, 1, most_blocks)), dim3(attention_threads), bytes,
           stream, args, query_tasks);
  }
  if ((args.dk.data != nullptr || args.dv.data != nullptr) && key_tasks > 0) {
    allow_shared_memory(key_gradient_kernel<D>, bytes);
    launch(key_gradient_kernel<D>, dim3(blocks_for(key_tasks, 1, most_blocks)), dim3(attention_threads), bytes, stream,
           args, key_tasks);
  }
}

}  // namespace

void attention_grad(const AttentionGradArgs& args, Stream stream) {
  const AttentionShape& s = args.shape;
  const int64_t rows = static_cast<int64_t>(s.batch) * s.heads * s.queries;
  if (rows > 0)
    launch(delta_kernel, dim3(blocks_for(rows, attention_threads / warp_size)), dim3(attention_threads), 0, stream,
           args, rows);
  if (s.head_size <= 32)
    launch_gradients<32>(args, stream);
  else if (s.head_size <= 64)
    launch_gradients<64>(args, stream);
  else
    launch_gradients<128>(args, stream);
}

}  // namespace mpt::cuda
