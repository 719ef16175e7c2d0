// Elements of the three floating-point types at a place in memory, for the emulated libraries.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "kernels/numerics/float16.h"

namespace mpt::cuda::emu {

inline float load(const void* at, DType type, int64_t i) {
  if (type == DType::f32) return static_cast<const float*>(at)[i];
  const uint16_t bits = static_cast<const uint16_t*>(at)[i];
  return type == DType::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}
inline void store(void* at, DType type, int64_t i, float x) {
  if (type == DType::f32)
    static_cast<float*>(at)[i] = x;
  else
    static_cast<uint16_t*>(at)[i] = type == DType::f16 ? f32_to_f16(x) : f32_to_bf16(x);
}
inline float rounded(DType type, float x) {
  return type == DType::f32 ? x : type == DType::f16 ? f16_to_f32(f32_to_f16(x)) : bf16_to_f32(f32_to_bf16(x));
}
inline const void* element(const void* at, DType type, int64_t i) {
  return static_cast<const char*>(at) + i * static_cast<int64_t>(size_of(type));
}
inline void* element(void* at, DType type, int64_t i) {
  return static_cast<char*>(at) + i * static_cast<int64_t>(size_of(type));
}

}  // namespace mpt::cuda::emu
