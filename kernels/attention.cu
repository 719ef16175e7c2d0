#include "kernels/attention.h"

#include "kernels/attention_tiles.h"
#include "kernels/numerics/math.h"

namespace mpt::cuda {
namespace {

template <int D>
struct Tiling {
  static constexpr int rows_per_thread = 8, queries = 8 * rows_per_thread, keys = 64;
  static constexpr int columns_per_thread = D / attention_x;
  // Values take the place of keys where both would leave room for one block on a multiprocessor only.
  static constexpr bool one_buffer = D > 64;
  static constexpr int blocks = one_buffer ? 2 : 3;  // a multiprocessor holds
  static constexpr int floats = (queries + (one_buffer ? 1 : 2) * keys) * padded(D) + queries * padded(keys);
};

// A block goes with a block of queries of one head through the keys. Heads wider than D are walked in chunks of D columns for
// the scores, and each chunk of the output has a block of its own.
template <int D>
__global__ void __launch_bounds__(attention_threads, Tiling<D>::blocks)
    attention_kernel(AttentionArgs args, int64_t tasks) {
  using T = Tiling<D>;
  constexpr int R = T::rows_per_thread, N = T::keys / attention_x, C = T::columns_per_thread;
  MPT_DYNAMIC_SHARED(float, shared);
  float* const q_tile = shared;
  float* const k_tile = q_tile + T::queries * padded(D);
  float* const v_tile = T::one_buffer ? k_tile : k_tile + T::keys * padded(D);
  float* const p_tile = v_tile + T::keys * padded(D);

  const AttentionShape& s = args.shape;
  const int x = static_cast<int>(threadIdx.x) % attention_x, y = static_cast<int>(threadIdx.x) / attention_x;
  const int chunks = (s.head_size + D - 1) / D, query_blocks = (s.queries + T::queries - 1) / T::queries;
  for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
    const int own = static_cast<int>(task % chunks);
    // The last queries first: where attention is causal they have the most to do.
    const int query = (query_blocks - 1 - static_cast<int>(task / chunks % query_blocks)) * T::queries;
    const int64_t head = task / chunks / query_blocks;
    const int b = static_cast<int>(head / s.heads), h = static_cast<int>(head % s.heads);
    const int64_t kv_column = static_cast<int64_t>(h / (s.heads / s.kv_heads)) * s.head_size;
    const int64_t q_first = b * args.q.batch + query * args.q.time + static_cast<int64_t>(h) * s.head_size;
    const int rows = smaller(s.queries - query, T::queries);
    const Sight sight(s, b, h);
    const int key_end = sight.causal ? smaller(sight.key_end, query + rows) : sight.key_end;

    float out[R][C], maximum[R], sum[R];
    MPT_UNROLL
    for (int r = 0; r < R; ++r) {
      maximum[r] = -infinity;
      sum[r] = 0;
      MPT_UNROLL
      for (int c = 0; c < C; ++c) out[r][c] = 0;
    }
    for (int key = 0; key < key_end; key += T::keys) {
      const int count = smaller(key_end - key, T::keys);
      float scores[R][N];
      MPT_UNROLL
      for (int r = 0; r < R; ++r) {
        MPT_UNROLL
        for (int n = 0; n < N; ++n) scores[r][n] = 0;
      }
      const int64_t k_first = b * args.k.batch + key * args.k.time + kv_column;
      const int64_t v_first = b * args.v.batch + key * args.v.time + kv_column + own * D;
      MPT_NO_UNROLL
      for (int chunk = 0; chunk < chunks; ++chunk) {
        const int columns = smaller(s.head_size - chunk * D, D);
        __syncthreads();  // nobody reads the last tiles any more
        if (chunks > 1 || key == 0) load_tile<T::queries, D>(q_tile, args.q, q_first + chunk * D, rows, columns);
        load_tile<T::keys, D>(k_tile, args.k, k_first + chunk * D, count, columns);
        if (!T::one_buffer) load_tile<T::keys, D>(v_tile, args.v, v_first, count, smaller(s.head_size - own * D, D));
        __syncthreads();
        multiply_rows<D>(scores, q_tile + y * R * padded(D), k_tile + x * padded(D), columns);
      }
      const bool all = sight.sees_all(query, T::queries, key, T::keys);
      MPT_UNROLL
      for (int r = 0; r < R; ++r) {
        float top = maximum[r];
        MPT_UNROLL
        for (int n = 0; n < N; ++n) {
          scores[r][n] *= s.scale;
          if (!all && !sight.sees(query + y * R + r, key + x + n * attention_x)) scores[r][n] = -infinity;
          top = scores[r][n] > top ? scores[r][n] : top;
        }
        top = row_max(top);
        const float base = top == -infinity ? 0.0f : top;  // exp(-inf - 0) = 0 where nothing is seen yet
        const float correction = exp_f32(maximum[r] - base);
        maximum[r] = top;
        float total = 0;
        MPT_UNROLL
        for (int n = 0; n < N; ++n) {
          const float p = exp_f32(scores[r][n] - base);
          total += p;
          p_tile[(y * R + r) * padded(T::keys) + x + n * attention_x] = p;
        }
        sum[r] = fused_multiply_add(sum[r], correction, total);  // of this thread's keys
        MPT_UNROLL
        for (int c = 0; c < C; ++c) out[r][c] *= correction;
      }
      if (T::one_buffer) {
        __syncthreads();
        load_tile<T::keys, D>(v_tile, args.v, v_first, count, smaller(s.head_size - own * D, D));
        __syncthreads();
      } else {
        __syncwarp();
      }
      multiply_columns<T::keys, D>(out, p_tile + y * R * padded(T::keys), v_tile + first_column<C>(x), count);
    }

    MPT_UNROLL
    for (int r = 0; r < R; ++r) {
      const float total = row_sum(sum[r]), factor = total == 0 ? 0.0f : 1 / total;
      MPT_UNROLL
      for (int c = 0; c < C; ++c) out[r][c] *= factor;
      if (x == 0 && own == 0 && y * R + r < rows)
        args.logsumexp[head * s.queries + query + y * R + r] = total == 0 ? -infinity : maximum[r] + log_f32(total);
    }
    const int64_t out_first =
        b * args.out.batch + query * args.out.time + static_cast<int64_t>(h) * s.head_size + own * D;
    store_sums(out, args.out, out_first, rows, smaller(s.head_size - own * D, D));
  }
}

template <int D>
void launch_attention(const AttentionArgs& args, Stream stream) {
  using T = Tiling<D>;
  const AttentionShape& s = args.shape;
  const int64_t query_blocks = (s.queries + T::queries - 1) / T::queries, chunks = (s.head_size + D - 1) / D;
  const int64_t tasks = static_cast<int64_t>(s.batch) * s.heads * query_blocks * chunks;
  if (tasks == 0) return;
  constexpr std::size_t bytes = T::floats * sizeof(float);
  allow_shared_memory(attention_kernel<D>, bytes);
  launch(attention_kernel<D>, dim3(blocks_for(tasks, 1, most_blocks)), dim3(attention_threads), bytes, stream, args,
         tasks);
}

}  // namespace

void attention(const AttentionArgs& args, Stream stream) {
  if (args.shape.head_size <= 32)
    launch_attention<32>(args, stream);
  else if (args.shape.head_size <= 64)
    launch_attention<64>(args, stream);
  else
    launch_attention<128>(args, stream);
}

}  // namespace mpt::cuda
