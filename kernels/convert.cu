#include "kernels/convert.h"

#include "kernels/element.h"

namespace mpt::cuda {
namespace {

__device__ double float_at(const void* array, AnyType type, int64_t i) {
  switch (type) {
    case AnyType::f64:
      return static_cast<const double*>(array)[i];
    case AnyType::f32:
      return static_cast<const float*>(array)[i];
    case AnyType::f16:
      return f16_to_f32(static_cast<const uint16_t*>(array)[i]);
    case AnyType::bf16:
      return bf16_to_f32(static_cast<const uint16_t*>(array)[i]);
    default:
      return 0;
  }
}

__device__ int64_t integer_at(const void* array, AnyType type, int64_t i) {
  switch (type) {
    case AnyType::i32:
      return static_cast<const int32_t*>(array)[i];
    case AnyType::i64:
      return static_cast<const int64_t*>(array)[i];
    case AnyType::u8:
      return static_cast<const uint8_t*>(array)[i];
    default:
      return 0;
  }
}

__device__ bool is_integer(AnyType type) { return type == AnyType::i32 || type == AnyType::i64 || type == AnyType::u8; }

// The nearest FP32 number toward which a second rounding, to 16 bits, cannot go wrong: rounded to odd.
__device__ float to_odd(double x) {
  const float nearest = static_cast<float>(x);
  const double back = nearest;
  if (back == x || !(back - back == 0)) return nearest;
  uint32_t bits = bits_of(nearest);
  if (bits & 1u) return nearest;
  // The other neighbour of x has an odd last bit.
  const bool away = (back < x) == (back > 0);
  if (back == 0) return float_of((x < 0 ? 0x80000000u : 0u) | 1u);
  return float_of(away ? bits + 1 : bits - 1);
}

__device__ void put_float(void* array, AnyType type, int64_t i, double x) {
  switch (type) {
    case AnyType::f64:
      static_cast<double*>(array)[i] = x;
      break;
    case AnyType::f32:
      static_cast<float*>(array)[i] = static_cast<float>(x);
      break;
    case AnyType::f16:
      static_cast<uint16_t*>(array)[i] = f32_to_f16(to_odd(x));
      break;
    case AnyType::bf16:
      static_cast<uint16_t*>(array)[i] = f32_to_bf16(to_odd(x));
      break;
    default:
      break;
  }
}

__device__ void put_integer(void* array, AnyType type, int64_t i, int64_t x) {
  switch (type) {
    case AnyType::i32:
      static_cast<int32_t*>(array)[i] =
          x >= INT32_MIN && x <= INT32_MAX ? static_cast<int32_t>(x) : static_cast<int32_t>(INT32_MIN);
      break;
    case AnyType::i64:
      static_cast<int64_t*>(array)[i] = x;
      break;
    case AnyType::u8:
      static_cast<uint8_t*>(array)[i] = static_cast<uint8_t>(x);
      break;
    default:
      put_float(array, type, i, static_cast<double>(x));
  }
}

__global__ void __launch_bounds__(256) convert_kernel(const ConvertArgs a) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < a.count; i += stride) {
    int64_t rest = i, from = 0, to = 0;
    for (int d = a.rank - 1; d >= 0; --d) {
      const int64_t at = rest % a.size[d];
      rest /= a.size[d];
      from += at * a.from_stride[d];
      to += at * a.to_stride[d];
    }
    if (is_integer(a.from_type))
      put_integer(a.to, a.to_type, to, integer_at(a.from, a.from_type, from));
    else
      put_float(a.to, a.to_type, to, float_at(a.from, a.from_type, from) * static_cast<double>(a.factor));
  }
}

}  // namespace

void convert(const ConvertArgs& args, Stream stream) {
  if (args.count == 0) return;
  constexpr int threads = 256;
  launch(convert_kernel, blocks_for(args.count, threads), threads, 0, stream, args);
}

}  // namespace mpt::cuda
