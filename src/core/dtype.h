// Element types. The numbers are the public constants of mpt.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mpt.h"

namespace mpt {

enum class DType : int32_t {
  f32 = MPT_FLOAT32,
  f16 = MPT_FLOAT16,
  bf16 = MPT_BFLOAT16,
  f64 = MPT_FLOAT64,  // the reference backend only
  i32 = MPT_INT32,
  i64 = MPT_INT64,  // user arrays only: converted to i32 on the way in
  u8 = MPT_UINT8,
};

constexpr std::size_t size_of(DType t) {
  switch (t) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f16:
    case DType::bf16:
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}

constexpr bool is_float(DType t) { return t == DType::f32 || t == DType::f16 || t == DType::bf16 || t == DType::f64; }
constexpr bool is_16bit(DType t) { return t == DType::f16 || t == DType::bf16; }
constexpr bool is_known(int32_t t) { return t >= MPT_FLOAT32 && t <= MPT_UINT8; }

constexpr const char* name_of(DType t) {
  switch (t) {
    case DType::f32:
      return "float32";
    case DType::f16:
      return "float16";
    case DType::bf16:
      return "bfloat16";
    case DType::f64:
      return "float64";
    case DType::i32:
      return "int32";
    case DType::i64:
      return "int64";
    case DType::u8:
      return "uint8";
  }
  return "unknown";
}

}  // namespace mpt
