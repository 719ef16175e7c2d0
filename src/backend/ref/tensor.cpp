#include "backend/ref/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace mpt::ref {

namespace {

// A binary format: digits of the significand (the hidden one included) and the exponents of its normal numbers.
struct Format {
  int digits, min_exponent, max_exponent;
};
constexpr Format binary16{11, -14, 15};
constexpr Format bfloat16{8, -126, 127};

double round_to_format(Format format, double x) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int exponent = std::max(std::ilogb(x), format.min_exponent);  // below the normal numbers the spacing stays
  const double spacing = std::ldexp(1.0, exponent - (format.digits - 1));
  const double rounded = std::nearbyint(x / spacing) * spacing;  // the division and the product are exact
  const double largest = (2 - std::ldexp(1.0, 1 - format.digits)) * std::ldexp(1.0, format.max_exponent);
  return std::fabs(rounded) > largest ? std::copysign(std::numeric_limits<double>::infinity(), x) : rounded;
}

uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

double load_f16(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  if (exponent == 31) {
    magnitude = fraction ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  }
  return bits & 0x8000 ? -magnitude : magnitude;
}

uint16_t store_f16(double x) {
  const double rounded = round_to_format(binary16, x);
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  if (std::isnan(rounded)) return sign | 0x7e00;
  if (std::isinf(rounded)) return sign | 0x7c00;
  const double magnitude = std::fabs(rounded);
  if (magnitude < std::ldexp(1.0, binary16.min_exponent))
    return sign | static_cast<uint16_t>(std::ldexp(magnitude, 24));
  const int exponent = std::ilogb(magnitude);
  const auto significand = static_cast<uint16_t>(std::ldexp(magnitude, 10 - exponent));  // 1024 .. 2047
  return static_cast<uint16_t>(sign | (exponent + 15) << 10 | (significand & 1023));
}

uint16_t store_bf16(double x) {
  if (std::isnan(x)) return static_cast<uint16_t>(std::signbit(x) ? 0xffc0 : 0x7fc0);
  // A bfloat16 value is a float whose lower half is zero, so this second conversion is exact.
  return static_cast<uint16_t>(bits_of(static_cast<float>(round_to_format(bfloat16, x))) >> 16);
}

}  // namespace

double round_to(DType dtype, double x) {
  switch (dtype) {
    case DType::f32:
      return static_cast<float>(x);
    case DType::f16:
      return round_to_format(binary16, x);
    case DType::bf16:
      return round_to_format(bfloat16, x);
    default:
      return x;
  }
}

double Tensor::operator[](int64_t i) const {
  switch (dtype) {
    case DType::f64:
      return static_cast<const double*>(data)[i];
    case DType::f32:
      return static_cast<const float*>(data)[i];
    case DType::f16:
      return load_f16(static_cast<const uint16_t*>(data)[i]);
    case DType::bf16:
      return float_of(static_cast<uint32_t>(static_cast<const uint16_t*>(data)[i]) << 16);
    case DType::i32:
      return static_cast<const int32_t*>(data)[i];
    case DType::i64:
      return static_cast<double>(static_cast<const int64_t*>(data)[i]);
    case DType::u8:
      return static_cast<const uint8_t*>(data)[i];
  }
  return 0;
}

void Tensor::set(int64_t i, double x) const {
  switch (dtype) {
    case DType::f64:
      static_cast<double*>(data)[i] = x;
      break;
    case DType::f32:
      static_cast<float*>(data)[i] = static_cast<float>(x);
      break;
    case DType::f16:
      static_cast<uint16_t*>(data)[i] = store_f16(x);
      break;
    case DType::bf16:
      static_cast<uint16_t*>(data)[i] = store_bf16(x);
      break;
    case DType::i32:
      static_cast<int32_t*>(data)[i] = static_cast<int32_t>(x);
      break;
    case DType::i64:
      static_cast<int64_t*>(data)[i] = static_cast<int64_t>(x);
      break;
    case DType::u8:
      static_cast<uint8_t*>(data)[i] = static_cast<uint8_t>(x);
      break;
  }
}

int Walk::add(const Strides& strides) {
  if (operands_ == max_operands) fail(MPT_ERROR_UNSUPPORTED, "ref: a node reads more than %d tensors", max_operands);
  strides_[operands_] = strides;
  return operands_++;
}

void Walk::next() {
  for (int axis = shape_.rank() - 1; axis >= 0; --axis) {
    ++position_[axis];
    for (int i = 0; i < operands_; ++i) offsets_[i] += strides_[i][axis];
    if (position_[axis] < shape_[axis]) return;
    for (int i = 0; i < operands_; ++i) offsets_[i] -= strides_[i][axis] * shape_[axis];
    position_[axis] = 0;
  }
}

}  // namespace mpt::ref
