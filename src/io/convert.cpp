#include "io/convert.h"

#include <cstdint>
#include <cstring>

#include "core/error.h"
#include "kernels/numerics/float16.h"

namespace mpt {
namespace {

struct Float32 {
  using Bits = float;
  static float widen(float x) { return x; }
  static float narrow(float x) { return x; }
};
struct Float16 {
  using Bits = uint16_t;
  static float widen(uint16_t x) { return f16_to_f32(x); }
  static uint16_t narrow(float x) { return f32_to_f16(x); }
};
struct Bfloat16 {
  using Bits = uint16_t;
  static float widen(uint16_t x) { return bf16_to_f32(x); }
  static uint16_t narrow(float x) { return f32_to_bf16(x); }
};

template <typename From, typename To>
void convert(const char* source, char* target, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    typename From::Bits in;
    std::memcpy(&in, source + i * sizeof in, sizeof in);
    const typename To::Bits out = To::narrow(From::widen(in));
    std::memcpy(target + i * sizeof out, &out, sizeof out);
  }
}

template <typename From>
void convert_from(const char* source, DType to, char* target, std::size_t count) {
  if (to == DType::f32) return convert<From, Float32>(source, target, count);
  if (to == DType::f16) return convert<From, Float16>(source, target, count);
  return convert<From, Bfloat16>(source, target, count);
}

bool is_weight_type(DType type) { return type == DType::f32 || is_16bit(type); }

}  // namespace

bool is_convertible(DType from, DType to) { return from == to || (is_weight_type(from) && is_weight_type(to)); }

void convert_elements(DType from, const void* source, DType to, void* target, std::size_t count) {
  MPT_INVARIANT(is_convertible(from, to));
  if (count == 0) return;
  if (from == to) {
    std::memcpy(target, source, count * size_of(from));
    return;
  }
  const auto* in = static_cast<const char*>(source);
  auto* out = static_cast<char*>(target);
  if (from == DType::f32) return convert_from<Float32>(in, to, out, count);
  if (from == DType::f16) return convert_from<Float16>(in, to, out, count);
  return convert_from<Bfloat16>(in, to, out, count);
}

}  // namespace mpt
