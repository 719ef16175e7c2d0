// What every kernel file includes: the CUDA language, or on the host the shim that plays it (src/backend/cuda/emu/shim.h),
// and the one way in which kernels are launched in both worlds.
//
// Kernels keep to what both worlds have: __global__, __device__, threadIdx and its kin, __syncthreads, __syncwarp, the
// __shfl_*_sync and vote functions, atomics, __threadfence; shared memory by MPT_SHARED and MPT_DYNAMIC_SHARED.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#if defined(MPT_SHIM)

#include "backend/cuda/emu/shim.h"

#else

#include <cuda_runtime.h>

// An array in the block's shared memory: MPT_SHARED(float, sums, 32);
#define MPT_SHARED(type, name, count) __shared__ type name[count]
// The launch's dynamic shared memory, aligned to 16 bytes, as a pointer. At most once in a kernel.
#define MPT_DYNAMIC_SHARED(type, name)                                       \
  extern __shared__ __align__(16) unsigned char mpt_dynamic_shared_memory[]; \
  type* const name = reinterpret_cast<type*>(mpt_dynamic_shared_memory)

#endif

#if defined(__CUDACC__)
#define MPT_UNROLL _Pragma("unroll")
#else
#define MPT_UNROLL
#endif

namespace mpt::cuda {

// A stream of the device: cudaStream_t, or the emulation's.
using Stream = void*;

// What a launch that the runtime refused becomes: throws mpt::Error. Defined by the backend.
[[noreturn]] void launch_failed(int code, const char* reason);

#if defined(__CUDACC__)

// More dynamic shared memory than 48 KiB must be asked for; at most what the device has for a block (227 KiB on sm_90).
template <typename... P>
inline void allow_shared_memory(void (*kernel)(P...), std::size_t bytes) {
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error != cudaSuccess) launch_failed(error, cudaGetErrorString(error));
}

template <typename... P>
inline void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, Stream stream,
                   std::type_identity_t<P>... arguments) {
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>(arguments...);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) launch_failed(error, cudaGetErrorString(error));
}

#endif

// Blocks of `per_block` for n items, at most `most`: kernels go through the rest in strides of the grid.
inline unsigned blocks_for(int64_t n, int64_t per_block, int64_t most = 1 << 20) {
  const int64_t blocks = (n + per_block - 1) / per_block;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks > most ? most : blocks);
}

}  // namespace mpt::cuda
