// The CUDA language on the host, for kernels that are compiled with MPT_SHIM: what kernels/launch.h promises of both
// worlds, and the launch itself, which captures its arguments by value and goes to the emulated stream. Included by
// kernels/launch.h alone.
//
// Blocks run one after the other, threads of a block as fibers in an order that the seed shuffles; a thread runs
// until it waits. So a thread that spins until another block or thread has written something hangs, as it may on a
// device. Not played: warps in step without __syncwarp, textures, __constant__ memory that the host writes,
// cooperative launches.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#include "backend/cuda/emu/block.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) alignas(n)
#define __launch_bounds__(...)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

#define MPT_EMU_VECTOR(type, name, bytes)                          \
  struct alignas(bytes * 2) name##2 {                              \
    type x, y;                                                     \
  };                                                               \
  struct name##3 {                                                 \
    type x, y, z;                                                  \
  };                                                               \
  struct alignas(bytes * 4 > 16 ? 16 : bytes * 4) name##4 {        \
    type x, y, z, w;                                               \
  };                                                               \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; } \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
MPT_EMU_VECTOR(float, float, 4)
MPT_EMU_VECTOR(int, int, 4)
MPT_EMU_VECTOR(short, short, 2)
MPT_EMU_VECTOR(unsigned short, ushort, 2)
MPT_EMU_VECTOR(double, double, 8)
#undef MPT_EMU_VECTOR
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) longlong2 {
  long long x, y;
};
struct alignas(16) ulonglong2 {
  unsigned long long x, y;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline dim3 make_dim3(unsigned x, unsigned y = 1, unsigned z = 1) { return {x, y, z}; }

// An array in the block's shared memory: MPT_SHARED(float, sums, 32); or MPT_SHARED(float, tile, 32][33);
#define MPT_SHARED(type, name, count)                                                                  \
  using mpt_shared_type_of_##name = type[count];                                                       \
  static ::mpt::cuda::emu::SharedSlot mpt_shared_slot_of_##name;                                       \
  mpt_shared_type_of_##name& name = *static_cast<mpt_shared_type_of_##name*>(::mpt::cuda::emu::shared( \
      mpt_shared_slot_of_##name, sizeof(mpt_shared_type_of_##name), alignof(mpt_shared_type_of_##name)))
#define MPT_DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(::mpt::cuda::emu::dynamic_shared())

// ---- barriers, votes, exchange

inline void __syncthreads() { mpt::cuda::emu::block_barrier(mpt::cuda::emu::BlockOperation::sync, 0); }
inline int __syncthreads_count(int predicate) {
  return mpt::cuda::emu::block_barrier(mpt::cuda::emu::BlockOperation::count, predicate);
}
inline int __syncthreads_and(int predicate) {
  return mpt::cuda::emu::block_barrier(mpt::cuda::emu::BlockOperation::all, predicate);
}
inline int __syncthreads_or(int predicate) {
  return mpt::cuda::emu::block_barrier(mpt::cuda::emu::BlockOperation::any, predicate);
}
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  mpt::cuda::emu::warp_exchange(mpt::cuda::emu::WarpOperation::sync, mask, 0, 0);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return static_cast<unsigned>(
      mpt::cuda::emu::warp_exchange(mpt::cuda::emu::WarpOperation::ballot, mask, predicate != 0, 0));
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }

namespace mpt::cuda::emu {

template <typename T>
inline T shuffle(unsigned mask, T value, unsigned source) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = warp_exchange(WarpOperation::shuffle, mask, bits, source);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
template <typename T>
inline T reduce(WarpOperation of_unsigned, WarpOperation of_signed, unsigned mask, T value) {
  static_assert(std::is_integral_v<T> && sizeof(T) == 4);
  return static_cast<T>(static_cast<uint32_t>(
      warp_exchange(std::is_signed_v<T> ? of_signed : of_unsigned, mask, static_cast<uint32_t>(value), 0)));
}

}  // namespace mpt::cuda::emu

template <typename T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const unsigned lane = mpt::cuda::emu::lane_of_thread(), w = static_cast<unsigned>(width);
  return mpt::cuda::emu::shuffle(mask, value, (lane & ~(w - 1)) | (static_cast<unsigned>(source) & (w - 1)));
}
template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32) {
  const unsigned lane = mpt::cuda::emu::lane_of_thread(), w = static_cast<unsigned>(width);
  const unsigned source = lane ^ static_cast<unsigned>(with);
  return mpt::cuda::emu::shuffle(mask, value, source < (lane & ~(w - 1)) + w ? source : lane);
}
template <typename T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const unsigned lane = mpt::cuda::emu::lane_of_thread(), w = static_cast<unsigned>(width);
  return mpt::cuda::emu::shuffle(mask, value, (lane & (w - 1)) + by < w ? lane + by : lane);
}
template <typename T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const unsigned lane = mpt::cuda::emu::lane_of_thread(), w = static_cast<unsigned>(width);
  return mpt::cuda::emu::shuffle(mask, value, (lane & (w - 1)) >= by ? lane - by : lane);
}
template <typename T>
inline unsigned __match_any_sync(unsigned mask, T value) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return static_cast<unsigned>(mpt::cuda::emu::warp_exchange(mpt::cuda::emu::WarpOperation::match, mask, bits, 0));
}
template <typename T>
inline T __reduce_add_sync(unsigned mask, T value) {
  using mpt::cuda::emu::WarpOperation;
  return mpt::cuda::emu::reduce(WarpOperation::sum, WarpOperation::sum_signed, mask, value);
}
template <typename T>
inline T __reduce_min_sync(unsigned mask, T value) {
  using mpt::cuda::emu::WarpOperation;
  return mpt::cuda::emu::reduce(WarpOperation::min, WarpOperation::min_signed, mask, value);
}
template <typename T>
inline T __reduce_max_sync(unsigned mask, T value) {
  using mpt::cuda::emu::WarpOperation;
  return mpt::cuda::emu::reduce(WarpOperation::max, WarpOperation::max_signed, mask, value);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value) {
  using mpt::cuda::emu::WarpOperation;
  return mpt::cuda::emu::reduce(WarpOperation::bit_or, WarpOperation::bit_or, mask, value);
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value) {
  using mpt::cuda::emu::WarpOperation;
  return mpt::cuda::emu::reduce(WarpOperation::bit_and, WarpOperation::bit_and, mask, value);
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value) {
  using mpt::cuda::emu::WarpOperation;
  return mpt::cuda::emu::reduce(WarpOperation::bit_xor, WarpOperation::bit_xor, mask, value);
}

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

// ---- atomics: no thread is interrupted

namespace mpt::cuda::emu {

template <typename T>
inline T replace(T* at, T by) {
  const T old = *at;
  *at = by;
  return old;
}

}  // namespace mpt::cuda::emu

// The types that CUDA has them for, and no others, so that both worlds refuse the same calls.
#define MPT_EMU_ATOMIC(name, type, expression)                               \
  inline type name(type* at, std::type_identity_t<type> x) {                 \
    return mpt::cuda::emu::replace<type>(at, static_cast<type>(expression)); \
  }
#define MPT_EMU_ATOMICS(type)                                            \
  MPT_EMU_ATOMIC(atomicExch, type, x)                                    \
  MPT_EMU_ATOMIC(atomicMin, type, x < *at ? x : *at)                     \
  MPT_EMU_ATOMIC(atomicMax, type, x > *at ? x : *at)                     \
  MPT_EMU_ATOMIC(atomicAnd, type, *at& x)                                \
  MPT_EMU_ATOMIC(atomicOr, type, *at | x)                                \
  MPT_EMU_ATOMIC(atomicXor, type, *at ^ x)                               \
  inline type atomicCAS(type* at, type expected, type x) {               \
    return mpt::cuda::emu::replace<type>(at, *at == expected ? x : *at); \
  }
MPT_EMU_ATOMICS(int)
MPT_EMU_ATOMICS(unsigned)
MPT_EMU_ATOMICS(unsigned long long)
MPT_EMU_ATOMIC(atomicAdd, int, static_cast<unsigned>(*at) + static_cast<unsigned>(x))
MPT_EMU_ATOMIC(atomicAdd, unsigned, *at + x)
MPT_EMU_ATOMIC(atomicAdd, unsigned long long, *at + x)
MPT_EMU_ATOMIC(atomicAdd, float, *at + x)
MPT_EMU_ATOMIC(atomicAdd, double, *at + x)
MPT_EMU_ATOMIC(atomicExch, float, x)
MPT_EMU_ATOMIC(atomicSub, int, static_cast<unsigned>(*at) - static_cast<unsigned>(x))
MPT_EMU_ATOMIC(atomicSub, unsigned, *at - x)
MPT_EMU_ATOMIC(atomicInc, unsigned, *at >= x ? 0 : *at + 1)
#undef MPT_EMU_ATOMICS
#undef MPT_EMU_ATOMIC

// ---- functions of single numbers

template <typename T>
inline T __ldg(const T* at) {
  return *at;
}
template <typename T>
inline T __ldcs(const T* at) {
  return *at;
}
template <typename T>
inline T __ldcg(const T* at) {
  return *at;
}
template <typename T>
inline void __stcs(T* at, std::type_identity_t<T> x) {
  *at = x;
}
template <typename T>
inline void __stcg(T* at, std::type_identity_t<T> x) {
  *at = x;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x)); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32); }
inline unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
inline int __float_as_int(float x) { return __builtin_bit_cast(int, x); }
inline float __uint_as_float(unsigned x) { return __builtin_bit_cast(float, x); }
inline float __int_as_float(int x) { return __builtin_bit_cast(float, x); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
#define MPT_EMU_MIN_MAX(type)                                  \
  constexpr type min(type a, type b) { return b < a ? b : a; } \
  constexpr type max(type a, type b) { return a < b ? b : a; }
MPT_EMU_MIN_MAX(int)
MPT_EMU_MIN_MAX(unsigned)
MPT_EMU_MIN_MAX(long)
MPT_EMU_MIN_MAX(unsigned long)
MPT_EMU_MIN_MAX(long long)
MPT_EMU_MIN_MAX(unsigned long long)
#undef MPT_EMU_MIN_MAX
// The number, where one of two is NaN.
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

// ---- launches

namespace mpt::cuda {

namespace emu {

// Refuses what the runtime refuses, else enqueues.
void enqueue_kernel(const char* name, void* stream, const LaunchShape& shape, void (*kernel)(),
                    std::function<void()> thread);
void allow_dynamic_shared(void (*kernel)(), std::size_t bytes);

}  // namespace emu

template <typename... P>
inline void allow_shared_memory(void (*kernel)(P...), std::size_t bytes) {
  emu::allow_dynamic_shared(reinterpret_cast<void (*)()>(kernel), bytes);
}

template <typename... P>
inline void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, void* stream,
                   std::type_identity_t<P>... arguments) {
  static_assert((std::is_trivially_copyable_v<P> && ...) && !(std::is_reference_v<P> || ...),
                "arguments of kernels are copied bytewise");
  static_assert((sizeof(P) + ... + 0) <= 4096, "arguments of kernels have room of 4 KB");
  emu::enqueue_kernel(__PRETTY_FUNCTION__, stream,
                      {{grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared_bytes},
                      reinterpret_cast<void (*)()>(kernel), [kernel, arguments...] { kernel(arguments...); });
}

}  // namespace mpt::cuda
