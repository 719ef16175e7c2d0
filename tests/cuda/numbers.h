// Elements of stored tensors as numbers, and what a result may be off by.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/dtype.h"
#include "kernels/numerics/float16.h"

namespace mpt::test {

constexpr double half_ulp = 0x1p-24;  // of FP32: the relative error of one rounding

inline double number_at(const std::vector<unsigned char>& bytes, DType type, int64_t i) {
  const unsigned char* at = &bytes[static_cast<std::size_t>(i) * size_of(type)];
  if (type == DType::f32) {
    float x;
    std::memcpy(&x, at, sizeof x);
    return static_cast<double>(x);
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return static_cast<double>(type == DType::f16 ? f16_to_f32(bits) : bf16_to_f32(bits));
}

inline void set_number(std::vector<unsigned char>& bytes, DType type, int64_t i, double value) {
  unsigned char* at = &bytes[static_cast<std::size_t>(i) * size_of(type)];
  const float x = static_cast<float>(value);
  const uint16_t bits = type == DType::f16 ? f32_to_f16(x) : f32_to_bf16(x);
  if (type == DType::f32)
    std::memcpy(at, &x, sizeof x);
  else
    std::memcpy(at, &bits, sizeof bits);
}

// The relative error of one rounding to the type.
inline double rounding_of(DType type) { return type == DType::f32 ? half_ulp : type == DType::f16 ? 0x1p-11 : 0x1p-8; }

// Of a result that was computed with `error` and then rounded to its type.
inline bool is_within(double found, double exact, double error, DType type) {
  const double smallest = type == DType::f32 ? 0x1p-149 : type == DType::f16 ? 0x1p-24 : 0x1p-133;
  const double rounding = std::max(rounding_of(type) * (std::fabs(exact) + error), smallest / 2);
  return std::fabs(found - exact) <= error + rounding;  // false for NaN
}

}  // namespace mpt::test
