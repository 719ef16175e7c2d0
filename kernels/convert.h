// Copies between arrays in device memory of any types and strides, as users hand them in and take them out.
#pragma once

#include "kernels/launch.h"

namespace mpt::cuda {

// The public numbers of the element types (mpt.h).
enum class AnyType : int32_t { f32 = 1, f16 = 2, bf16 = 3, f64 = 4, i32 = 5, i64 = 6, u8 = 7 };

constexpr int convert_max_rank = 8;

struct ConvertArgs {
  const void* from;
  void* to;
  AnyType from_type, to_type;
  int32_t rank;
  int64_t count;                          // elements
  int64_t size[convert_max_rank];         // outermost first
  int64_t from_stride[convert_max_rank];  // in elements
  int64_t to_stride[convert_max_rank];
  float factor;  // of floats, before rounding
};

// Floats are rounded once, from double; 64-bit integers that don't fit 32 bits become INT32_MIN, which is no index.
void convert(const ConvertArgs& args, Stream stream);

}  // namespace mpt::cuda
