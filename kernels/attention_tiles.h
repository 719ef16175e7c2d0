// What the kernels of attention share: tiles of rows in shared memory, and products of tiles in registers.
//
// A block has 128 threads, 8 in y by 16 in x. Of a tile of scores thread (y, x) holds rows y * R .. y * R + R - 1 and columns
// x, x + 16, ...; of a tile of sums the same rows and columns x * W + 16 * W * j .. + W - 1. A warp holds whole rows, so what
// it passes on from one product to the next it passes to itself.
#pragma once

#include "kernels/attention.h"
#include "kernels/block_reduce.h"

#if defined(__CUDACC__)
#define MPT_NO_UNROLL _Pragma("unroll 1")
#else
#define MPT_NO_UNROLL
#endif

namespace mpt::cuda {

constexpr int attention_threads = 128;
constexpr int attention_x = 16;
constexpr int64_t most_blocks = 0x7fffffff;
constexpr float infinity = __builtin_huge_valf();

// Floats from one row of a tile in shared memory to the next: 16-byte accesses of eight neighbouring rows meet all banks.
__host__ __device__ constexpr int padded(int columns) { return columns + 4; }

// W neighbouring floats in one access.
template <int W>
struct alignas(4 * W) Floats {
  float v[W];
};

template <int W>
__device__ __forceinline__ Floats<W> floats_at(const float* at) {
  return *reinterpret_cast<const Floats<W>*>(at);
}

__device__ __forceinline__ int smaller(int a, int b) { return a < b ? a : b; }

// Four neighbouring elements in one access.
__device__ __forceinline__ void store_four(void* tensor, Element type, int64_t i, const float (&x)[4]) {
  struct alignas(8) Halves {
    uint16_t v[4];
  };
  if (type == Element::f32) {
    store_words(static_cast<float*>(tensor) + i, Words4{{bits_of(x[0]), bits_of(x[1]), bits_of(x[2]), bits_of(x[3])}});
    return;
  }
  Halves halves;
  MPT_UNROLL
  for (int e = 0; e < 4; ++e) halves.v[e] = type == Element::f16 ? f32_to_f16(x[e]) : f32_to_bf16(x[e]);
  *reinterpret_cast<Halves*>(static_cast<uint16_t*>(tensor) + i) = halves;
}

// The largest, and the sum, over the 16 threads that share rows.
__device__ __forceinline__ float row_max(float x) {
  MPT_UNROLL
  for (int distance = attention_x / 2; distance > 0; distance /= 2) {
    const float other = __shfl_xor_sync(full_warp, x, distance);
    x = other > x ? other : x;
  }
  return x;
}
__device__ __forceinline__ float row_sum(float x) {
  MPT_UNROLL
  for (int distance = attention_x / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(full_warp, x, distance);
  return x;
}

// What the queries of one head of one batch item see.
struct Sight {
  const uint8_t* mask;  // of this head, or null
  int keys, key_end, queries;
  bool causal;

  __device__ __forceinline__ Sight(const AttentionShape& s, int b, int h)
      : mask(s.mask == nullptr ? nullptr : s.mask + b * s.mask_batch + h * s.mask_head),
        keys(s.keys),
        key_end(s.lengths == nullptr ? s.keys : smaller(s.keys, s.lengths[b] < 0 ? 0 : s.lengths[b])),
        queries(s.queries),
        causal(s.causal != 0) {}

  __device__ __forceinline__ bool sees(int query, int key) const {
    if (query >= queries || key >= key_end || (causal && key > query)) return false;
    return mask == nullptr || mask[static_cast<int64_t>(query) * keys + key] != 0;
  }
  // All of a tile: nothing needs to be hidden.
  __device__ __forceinline__ bool sees_all(int query, int n_queries, int key, int n_keys) const {
    return mask == nullptr && query + n_queries <= queries && key + n_keys <= key_end &&
           (!causal || key + n_keys - 1 <= query);
  }
};

template <Element type, int Rows, int Columns>
__device__ __forceinline__ void load_rows(float* tile, const void* data, int64_t first, int64_t stride, int rows,
                                          int columns) {
  constexpr int per_row = Columns / vector_length, count = Rows * per_row / attention_threads;
  constexpr int at_once = count < 4 ? count : 4;  // in flight
  static_assert(Rows * per_row % attention_threads == 0 && count % at_once == 0);
  MPT_NO_UNROLL
  for (int i = 0; i < count; i += at_once) {
    float x[at_once][vector_length];
    MPT_UNROLL
    for (int j = 0; j < at_once; ++j) {
      const int at = static_cast<int>(threadIdx.x) + (i + j) * attention_threads;
      const int row = at / per_row, column = at % per_row * vector_length;
      MPT_UNROLL
      for (int e = 0; e < vector_length; ++e) x[j][e] = 0;
      if (row < rows && column + vector_length <= columns) {
        load_vector(data, type, first + row * stride + column, x[j]);
      } else if (row < rows) {
        for (int e = 0; e < vector_length; ++e)
          if (column + e < columns) x[j][e] = load_element(data, type, first + row * stride + column + e);
      }
    }
    MPT_UNROLL
    for (int j = 0; j < at_once; ++j) {
      const int at = static_cast<int>(threadIdx.x) + (i + j) * attention_threads;
      float* to = tile + at / per_row * padded(Columns) + at % per_row * vector_length;
      const float(&y)[vector_length] = x[j];
      store_words(to, Words4{{bits_of(y[0]), bits_of(y[1]), bits_of(y[2]), bits_of(y[3])}});
      store_words(to + 4, Words4{{bits_of(y[4]), bits_of(y[5]), bits_of(y[6]), bits_of(y[7])}});
    }
  }
}

// `rows` rows and `columns` columns, the first element being data[first], widened; zeros in the rest of the tile.
template <int Rows, int Columns, typename Pointer>
__device__ __forceinline__ void load_tile(float* tile, const HeadRows<Pointer>& tensor, int64_t first, int rows,
                                          int columns) {
  if (tensor.vector) {
    if (tensor.type == Element::f32)
      load_rows<Element::f32, Rows, Columns>(tile, tensor.data, first, tensor.time, rows, columns);
    else if (tensor.type == Element::f16)
      load_rows<Element::f16, Rows, Columns>(tile, tensor.data, first, tensor.time, rows, columns);
    else
      load_rows<Element::bf16, Rows, Columns>(tile, tensor.data, first, tensor.time, rows, columns);
    return;
  }
  for (int at = static_cast<int>(threadIdx.x); at < Rows * Columns; at += attention_threads) {
    const int row = at / Columns, column = at % Columns;
    const bool inside = row < rows && column < columns;
    tile[row * padded(Columns) + column] =
        inside ? load_element(tensor.data, tensor.type, first + row * tensor.time + column) : 0.0f;
  }
}

// sums[r][n] += the product of row r of `a` and row n of `b` over their first `columns` elements; a: the thread's first row,
// b: its first column's row, further ones 16 rows apart.
template <int Columns, int R, int N>
__device__ __forceinline__ void multiply_rows(float (&sums)[R][N], const float* a, const float* b, int columns) {
  MPT_NO_UNROLL
  for (int i = 0; i < columns; i += 4) {
    Floats<4> y[N];
    MPT_UNROLL
    for (int n = 0; n < N; ++n) y[n] = floats_at<4>(b + n * attention_x * padded(Columns) + i);
    MPT_UNROLL
    for (int r = 0; r < R; ++r) {
      const Floats<4> x = floats_at<4>(a + r * padded(Columns) + i);
      MPT_UNROLL
      for (int e = 0; e < 4; ++e) {
        MPT_UNROLL
        for (int n = 0; n < N; ++n) sums[r][n] = fused_multiply_add(x.v[e], y[n].v[e], sums[r][n]);
      }
    }
  }
}

// sums[r][c] += the sum over the first `terms` rows k of b, rounded up to four, of weights[r][k] * b[k][c]; weights: the
// thread's first row of a tile with `Terms` columns, b: its first column.
template <int Terms, int Columns, int R, int C>
__device__ __forceinline__ void multiply_columns(float (&sums)[R][C], const float* weights, const float* b, int terms) {
  constexpr int W = C < 4 ? C : 4;
  MPT_NO_UNROLL
  for (int k = 0; k < terms; k += 4) {
    Floats<4> x[R];
    MPT_UNROLL
    for (int r = 0; r < R; ++r) x[r] = floats_at<4>(weights + r * padded(Terms) + k);
    MPT_UNROLL
    for (int e = 0; e < 4; ++e) {
      MPT_UNROLL
      for (int c = 0; c < C; c += W) {
        const Floats<W> y = floats_at<W>(b + (k + e) * padded(Columns) + c * attention_x);
        MPT_UNROLL
        for (int r = 0; r < R; ++r) {
          MPT_UNROLL
          for (int w = 0; w < W; ++w) sums[r][c + w] = fused_multiply_add(x[r].v[e], y.v[w], sums[r][c + w]);
        }
      }
    }
  }
}

// Where a thread's columns begin in a tile of sums with C columns for each.
template <int C>
__device__ __forceinline__ int first_column(int x) {
  return x * (C < 4 ? C : 4);
}

// Stores the thread's share of a tile of sums. first: of the tile's first element.
template <int R, int C>
__device__ __forceinline__ void store_sums(const float (&sums)[R][C], const HeadsOut& tensor, int64_t first, int rows,
                                           int columns) {
  constexpr int W = C < 4 ? C : 4;
  const int x = static_cast<int>(threadIdx.x) % attention_x, y = static_cast<int>(threadIdx.x) / attention_x;
  MPT_UNROLL
  for (int r = 0; r < R; ++r) {
    if (y * R + r >= rows) continue;
    const int64_t at = first + (y * R + r) * tensor.time;
    MPT_UNROLL
    for (int c = 0; c < C; c += W) {
      const int column = x * W + c * attention_x;
      if constexpr (W == 4) {
        if (tensor.vector && column + W <= columns) {
          store_four(tensor.data, tensor.type, at + column,
                     {sums[r][c], sums[r][c + 1], sums[r][c + 2], sums[r][c + 3]});
          continue;
        }
      }
      MPT_UNROLL
      for (int w = 0; w < W; ++w)
        if (column + w < columns) store_element(tensor.data, tensor.type, at + column + w, sums[r][c + w]);
    }
  }
}

}  // namespace mpt::cuda
