// Rows in the registers of a group of threads: a power of two of them, from one up to a whole block. What a thread holds
// depends on the row's length and the group's size alone, never on the tensors' alignment: neither do the bits of sums.
#pragma once

#include "kernels/block_reduce.h"
#include "kernels/element.h"

namespace mpt::cuda {

enum class RowAccess : int32_t {
  vector,  // eight neighbours by 16-byte accesses: the length is a multiple of 8 and all tensors are aligned
  split,   // the same elements one by one: a tensor is not aligned
  scalar,  // neighbouring threads take neighbouring elements: the length is no multiple of 8
};

inline bool is_aligned(const void* tensor) { return reinterpret_cast<uintptr_t>(tensor) % 16 == 0; }

template <typename... Tensor>
inline RowAccess row_access(int64_t n, const Tensor*... tensors) {
  if (n % vector_length != 0) return RowAccess::scalar;
  return (is_aligned(tensors) && ...) ? RowAccess::vector : RowAccess::split;
}

inline int64_t pieces_of(int64_t n, int64_t piece) { return (n + piece - 1) / piece; }

inline int power_of_two_from(int64_t n) {
  int power = 1;
  while (power < n) power *= 2;
  return power;
}

// The threads of a group and the vectors of eight elements that each of them holds.
struct RowGroup {
  int32_t threads, vectors;
};

// Rows of up to 16384 elements fit: up to 1024 in a warp, more in 64 to 512 threads with four vectors each.
constexpr int64_t held_row = 16384;
constexpr int row_threads = 512;  // most of a block

inline RowGroup row_group(int64_t n) {
  const int64_t vectors = pieces_of(n, vector_length);
  if (vectors <= warp_size) return {power_of_two_from(vectors), 1};
  if (vectors <= 2 * warp_size) return {warp_size, 2};
  if (vectors <= 4 * warp_size) return {warp_size, 4};
  return {power_of_two_from(pieces_of(vectors, 4)), 4};
}

inline unsigned threads_of_block(int32_t group) { return group > 128 ? static_cast<unsigned>(group) : 128u; }

// ---- on the device

// A thread's share of a row of n elements whose first is `start`.
struct Row {
  int64_t start;
  int32_t n, threads, lane;
  RowAccess access;

  // Of vector j and element k in it.
  __device__ __forceinline__ int32_t index(int j, int k) const {
    return access == RowAccess::scalar ? (j * vector_length + k) * threads + lane
                                       : (j * threads + lane) * vector_length + k;
  }
  // How many elements the thread holds: those with j * 8 + k below it.
  __device__ __forceinline__ int32_t held() const {
    if (access == RowAccess::scalar) return lane < n ? (n - lane + threads - 1) / threads : 0;
    const int32_t vectors = n / vector_length;
    return lane < vectors ? (vectors - lane + threads - 1) / threads * vector_length : 0;
  }
  // j * 8 + k where this thread holds element i, else a negative number.
  __device__ __forceinline__ int32_t position_of(int32_t i) const {
    if (i < 0 || i >= n) return -1;
    const bool alone = access == RowAccess::scalar;
    const int32_t piece = alone ? i : i / vector_length;
    if ((piece & (threads - 1)) != lane) return -1;
    return alone ? piece / threads : piece / threads * vector_length + i % vector_length;
  }
  // The rest from element `begin` on, a multiple of 8.
  __device__ __forceinline__ Row from(int32_t begin) const {
    return {start + begin, n > begin ? n - begin : 0, threads, lane, access};
  }
};

// This thread's share of a row, where threadIdx.x / threads is the group and a block has several of them.
__device__ __forceinline__ Row row_of_thread(int64_t number, int64_t rows, int32_t n, int32_t threads,
                                             RowAccess access) {
  const bool exists = number < rows;  // without one a group has nothing, and takes part in sums
  return {exists ? number * n : 0, exists ? n : 0, threads, static_cast<int32_t>(threadIdx.x) & (threads - 1), access};
}

template <bool Half>
__device__ __forceinline__ float widened(uint32_t bits) {
  return Half ? f16_to_f32(static_cast<uint16_t>(bits)) : bf16_to_f32(static_cast<uint16_t>(bits));
}

template <bool Half, int V>
__device__ __forceinline__ void widen_words(const Words4 (&words)[V], float (&x)[V][vector_length]) {
  MPT_UNROLL
  for (int j = 0; j < V; ++j) {
    MPT_UNROLL
    for (int k = 0; k < 4; ++k) {
      x[j][2 * k] = widened<Half>(words[j].v[k] & 0xffffu);
      x[j][2 * k + 1] = widened<Half>(words[j].v[k] >> 16);
    }
  }
}

template <bool Half, int V>
__device__ __forceinline__ void widen_bits(const uint32_t (&bits)[V][vector_length], float (&x)[V][vector_length]) {
  MPT_UNROLL
  for (int j = 0; j < V; ++j) {
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k) x[j][k] = widened<Half>(bits[j][k]);
  }
}

// V vectors of eight elements, the first of vector j at `at[j]` and `step` apart, of which count[j] exist; the others become
// `fill`. All loads are issued before the first result is used. `whole`: by 16-byte accesses, where count is 0 or 8.
template <int V>
__device__ __forceinline__ void load_vectors(const void* tensor, Element type, bool whole, const int64_t (&at)[V],
                                             int32_t step, const int32_t (&count)[V], float fill,
                                             float (&x)[V][vector_length]) {
  if (whole && type == Element::f32) {
    const float* from = static_cast<const float*>(tensor);
    Words4 words[V][2];
    MPT_UNROLL
    for (int j = 0; j < V; ++j) {
      words[j][0] = words[j][1] = Words4{};
      if (count[j] > 0) {
        words[j][0] = load_words(from + at[j]);
        words[j][1] = load_words(from + at[j] + 4);
      }
    }
    MPT_UNROLL
    for (int j = 0; j < V; ++j) {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) x[j][k] = float_of(words[j][k / 4].v[k % 4]);
    }
  } else if (whole) {
    const uint16_t* from = static_cast<const uint16_t*>(tensor);
    Words4 words[V];
    MPT_UNROLL
    for (int j = 0; j < V; ++j) {
      words[j] = Words4{};
      if (count[j] > 0) words[j] = load_words(from + at[j]);
    }
    if (type == Element::f16)
      widen_words<true>(words, x);
    else
      widen_words<false>(words, x);
  } else if (type == Element::f32) {
    const float* from = static_cast<const float*>(tensor);
    MPT_UNROLL
    for (int j = 0; j < V; ++j) {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) x[j][k] = k < count[j] ? from[at[j] + int64_t{k} * step] : 0.0f;
    }
  } else {
    const uint16_t* from = static_cast<const uint16_t*>(tensor);
    uint32_t bits[V][vector_length];
    MPT_UNROLL
    for (int j = 0; j < V; ++j) {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) bits[j][k] = k < count[j] ? from[at[j] + int64_t{k} * step] : 0u;
    }
    if (type == Element::f16)
      widen_bits<true>(bits, x);
    else
      widen_bits<false>(bits, x);
  }
  MPT_UNROLL
  for (int j = 0; j < V; ++j) {
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k) x[j][k] = k < count[j] ? x[j][k] : fill;
  }
}

template <int V>
__device__ __forceinline__ void load_row(const void* tensor, Element type, const Row& row, float fill,
                                         float (&x)[V][vector_length]) {
  int64_t at[V];
  int32_t count[V];
  const int32_t held = row.held();
  MPT_UNROLL
  for (int j = 0; j < V; ++j) {
    at[j] = row.start + row.index(j, 0);
    count[j] = held - j * vector_length;
  }
  load_vectors(tensor, type, row.access == RowAccess::vector, at, row.access == RowAccess::scalar ? row.threads : 1,
               count, fill, x);
}

// Eight elements anywhere, of which the first `count` exist.
__device__ __forceinline__ void load_elements(const void* tensor, Element type, const int64_t (&at)[vector_length],
                                              int32_t count, float fill, float (&x)[vector_length]) {
  uint32_t bits[vector_length];
  if (type == Element::f32) {
    const float* from = static_cast<const float*>(tensor);
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k) bits[k] = k < count ? bits_of(from[at[k]]) : 0u;
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k) x[k] = float_of(bits[k]);
  } else {
    const uint16_t* from = static_cast<const uint16_t*>(tensor);
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k) bits[k] = k < count ? from[at[k]] : 0u;
    MPT_UNROLL
    for (int k = 0; k < vector_length; ++k)
      x[k] = type == Element::f16 ? widened<true>(bits[k]) : widened<false>(bits[k]);
  }
  MPT_UNROLL
  for (int k = 0; k < vector_length; ++k) x[k] = k < count ? x[k] : fill;
}

template <bool Half>
__device__ __forceinline__ uint32_t narrowed(float x) {
  return Half ? f32_to_f16(x) : f32_to_bf16(x);
}

template <bool Half, int V>
__device__ __forceinline__ void store_row_16(uint16_t* to, const Row& row, const float (&x)[V][vector_length]) {
  const int32_t held = row.held();
  MPT_UNROLL
  for (int j = 0; j < V; ++j) {
    if (row.access == RowAccess::vector) {
      if (j * vector_length >= held) continue;
      Words4 words;
      MPT_UNROLL
      for (int k = 0; k < 4; ++k) words.v[k] = narrowed<Half>(x[j][2 * k]) | narrowed<Half>(x[j][2 * k + 1]) << 16;
      store_words(to + row.start + row.index(j, 0), words);
    } else {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k)
        if (j * vector_length + k < held)
          to[row.start + row.index(j, k)] = static_cast<uint16_t>(narrowed<Half>(x[j][k]));
    }
  }
}

// Each element rounded once.
template <int V>
__device__ __forceinline__ void store_row(void* tensor, Element type, const Row& row,
                                          const float (&x)[V][vector_length]) {
  if (type == Element::f16) return store_row_16<true>(static_cast<uint16_t*>(tensor), row, x);
  if (type == Element::bf16) return store_row_16<false>(static_cast<uint16_t*>(tensor), row, x);
  float* to = static_cast<float*>(tensor);
  const int32_t held = row.held();
  MPT_UNROLL
  for (int j = 0; j < V; ++j) {
    if (row.access == RowAccess::vector) {
      if (j * vector_length < held) store_vector(tensor, Element::f32, row.start + row.index(j, 0), x[j]);
    } else {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k)
        if (j * vector_length + k < held) to[row.start + row.index(j, k)] = x[j][k];
    }
  }
}

// The sum of eight numbers: in three levels.
__device__ __forceinline__ float sum_of_vector(const float (&x)[vector_length]) {
  return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]));
}

// Over the threads of a group; all of them get the result. All threads of the block call, with the same `threads`. `room`
// is shared memory of blockDim.x / 32 elements, free for other use after the call.
template <typename Op, typename T>
__device__ __forceinline__ T group_reduce(Op op, T x, int32_t threads, T* room) {
  for (int distance = (threads < warp_size ? threads : warp_size) / 2; distance > 0; distance /= 2)
    x = op(x, __shfl_xor_sync(full_warp, x, distance));
  if (threads <= warp_size) return x;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread % warp_size == 0) room[thread / warp_size] = x;
  __syncthreads();
  const int warps = threads / warp_size, first = thread / threads * warps;
  T total = room[first];
  for (int w = 1; w < warps; ++w) total = op(total, room[first + w]);
  __syncthreads();
  return total;
}

// The larger of two numbers; NaN is passed over.
struct Larger {
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

}  // namespace mpt::cuda
