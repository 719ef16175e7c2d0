// Tensor elements in their storage types, as kernels read and write them: widened to FP32, rounded once to nearest even.
// The type is a run-time value, the same for all threads of a launch, so that one kernel serves every mixture of types.
#pragma once

#include <cstdint>

#include "kernels/launch.h"
#include "kernels/numerics/float16.h"

namespace mpt::cuda {

enum class Element : int32_t { f32, f16, bf16 };

__host__ __device__ __forceinline__ constexpr int size_of_element(Element type) { return type == Element::f32 ? 4 : 2; }

__device__ __forceinline__ float load_element(const void* tensor, Element type, int64_t i) {
  if (type == Element::f32) return static_cast<const float*>(tensor)[i];
  const uint16_t bits = static_cast<const uint16_t*>(tensor)[i];
  return type == Element::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

__device__ __forceinline__ void store_element(void* tensor, Element type, int64_t i, float x) {
  if (type == Element::f32)
    static_cast<float*>(tensor)[i] = x;
  else
    static_cast<uint16_t*>(tensor)[i] = type == Element::f16 ? f32_to_f16(x) : f32_to_bf16(x);
}

// The number that a tensor of this type would hold.
__device__ __forceinline__ float rounded_to(Element type, float x) {
  if (type == Element::f32) return x;
  return type == Element::f16 ? f16_to_f32(f32_to_f16(x)) : bf16_to_f32(f32_to_bf16(x));
}

// Eight elements at once by 16-byte accesses: element i is the first, and &tensor[i] must be aligned to 16 bytes.
constexpr int vector_length = 8;

struct alignas(16) Words4 {
  uint32_t v[4];
};

__device__ __forceinline__ Words4 load_words(const void* at) {
#if defined(__CUDA_ARCH__)
  const uint4 words = *static_cast<const uint4*>(at);
  return Words4{{words.x, words.y, words.z, words.w}};
#else
  return *static_cast<const Words4*>(at);
#endif
}

__device__ __forceinline__ void store_words(void* at, const Words4& words) {
#if defined(__CUDA_ARCH__)
  *static_cast<uint4*>(at) = make_uint4(words.v[0], words.v[1], words.v[2], words.v[3]);
#else
  *static_cast<Words4*>(at) = words;
#endif
}

__device__ __forceinline__ void load_vector(const void* tensor, Element type, int64_t i, float (&x)[vector_length]) {
  if (type == Element::f32) {
    const float* at = static_cast<const float*>(tensor) + i;
    const Words4 low = load_words(at), high = load_words(at + 4);
    MPT_UNROLL
    for (int j = 0; j < 4; ++j) {
      x[j] = float_of(low.v[j]);
      x[j + 4] = float_of(high.v[j]);
    }
    return;
  }
  const Words4 words = load_words(static_cast<const uint16_t*>(tensor) + i);
  MPT_UNROLL
  for (int j = 0; j < 4; ++j) {
    const uint16_t low = static_cast<uint16_t>(words.v[j]), high = static_cast<uint16_t>(words.v[j] >> 16);
    x[2 * j] = type == Element::f16 ? f16_to_f32(low) : bf16_to_f32(low);
    x[2 * j + 1] = type == Element::f16 ? f16_to_f32(high) : bf16_to_f32(high);
  }
}

__device__ __forceinline__ void store_vector(void* tensor, Element type, int64_t i, const float (&x)[vector_length]) {
  if (type == Element::f32) {
    float* at = static_cast<float*>(tensor) + i;
    store_words(at, Words4{{bits_of(x[0]), bits_of(x[1]), bits_of(x[2]), bits_of(x[3])}});
    store_words(at + 4, Words4{{bits_of(x[4]), bits_of(x[5]), bits_of(x[6]), bits_of(x[7])}});
    return;
  }
  Words4 words;
  MPT_UNROLL
  for (int j = 0; j < 4; ++j) {
    const uint32_t low = type == Element::f16 ? f32_to_f16(x[2 * j]) : f32_to_bf16(x[2 * j]);
    const uint32_t high = type == Element::f16 ? f32_to_f16(x[2 * j + 1]) : f32_to_bf16(x[2 * j + 1]);
    words.v[j] = low | high << 16;
  }
  store_words(static_cast<uint16_t*>(tensor) + i, words);
}

}  // namespace mpt::cuda
