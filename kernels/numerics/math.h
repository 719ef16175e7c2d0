// exp, log, tanh and their kin in FP32: without branches, tables or libm, so that loops over them become vector code and
// every machine gets the same bits. Polynomials are minimax fits with coefficients rounded one after another.
//
// Largest errors, in units of the last place of the exact result (tests/unit/numerics.cpp measures them):
//
//   exp 1, log 1, log1p 1.5, tanh 1.5, erf 2, sigmoid 3, normal_cdf 2.5 above 0 and 6.5 below (down to 1e-38)
//
// Results reach down through the subnormals; special values are the functions' limits, and NaN passes.
#pragma once

#include "kernels/numerics/qualifiers.h"

namespace mpt {

MPT_HD float absolute(float x) { return float_of(bits_of(x) & 0x7fffffffu); }

MPT_HD float with_sign_of(float magnitude, float sign) {
  return float_of((bits_of(magnitude) & 0x7fffffffu) | (bits_of(sign) & 0x80000000u));
}

MPT_HD float square_root(float x) {
#if defined(__CUDA_ARCH__)
  return __fsqrt_rn(x);
#else
  return __builtin_sqrtf(x);
#endif
}

MPT_HD double square_root_f64(double x) {
#if defined(__CUDA_ARCH__)
  return __dsqrt_rn(x);
#else
  return __builtin_sqrt(x);
#endif
}

namespace numerics {

constexpr float log2_e = 0x1.715476p+0f;
constexpr float ln2_high = 0x1.62e43p-1f, ln2_low = -0x1.05c61p-29f;
constexpr float sqrt_2 = 0x1.6a09e6p+0f;

// 2^n for -126 <= n <= 127.
MPT_HD float power_of_two(int32_t n) { return float_of(static_cast<uint32_t>(n + 127) << 23); }

// log(2^e (1 + f)) for sqrt(1/2) <= 1 + f <= sqrt(2).
MPT_HD float log_of_parts(float e, float f) {
  float p = 0x1.14763ap-4f;
  p = fused_multiply_add(p, f, -0x1.de02d6p-4f);
  p = fused_multiply_add(p, f, 0x1.e6bf38p-4f);
  p = fused_multiply_add(p, f, -0x1.fc2884p-4f);
  p = fused_multiply_add(p, f, 0x1.233ba8p-3f);
  p = fused_multiply_add(p, f, -0x1.555c46p-3f);
  p = fused_multiply_add(p, f, 0x1.99a476p-3f);
  p = fused_multiply_add(p, f, -0x1.000006p-2f);
  p = fused_multiply_add(p, f, 0x1.555548p-2f);
  const float square = f * f;
  const float low = fused_multiply_add(-0.5f, square, fused_multiply_add(f * square, p, e * ln2_low));
  return fused_multiply_add(e, ln2_high, f + low);
}

// Splits a normal x > 0 into 2^e m with sqrt(1/2) <= m < sqrt(2).
MPT_HD int32_t binary_exponent(float x) { return static_cast<int32_t>(bits_of(x) - 0x3f3504f3u) >> 23; }
MPT_HD float mantissa(float x, int32_t e) { return float_of(bits_of(x) - (static_cast<uint32_t>(e) << 23)); }

// The limits of log: -infinity at 0, infinity at infinity, NaN below 0 and for NaN.
MPT_HD float log_limits(float x, float inside) {
  float y = x > 0x1.fffffep127f ? x : inside;
  y = x == 0 ? float_of(0xff800000u) : y;
  return x >= 0 ? y : float_of(0x7fc00000u);
}

}  // namespace numerics

MPT_HD float exp_f32(float x) {
  // Outside, the result is 0 or infinity all the same; NaN passes.
  x = x < -104.0f ? -104.0f : x;
  x = x > 89.0f ? 89.0f : x;
  // x = n ln 2 + r: adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
  const float magic = 0x1.8p23f;
  const float shifted = fused_multiply_add(x, numerics::log2_e, magic);
  const float n = shifted - magic;
  float r = fused_multiply_add(-n, numerics::ln2_high, x);
  r = fused_multiply_add(-n, numerics::ln2_low, r);
  float p = 0x1.6a3d7p-10f;
  p = fused_multiply_add(p, r, 0x1.1239ep-7f);
  p = fused_multiply_add(p, r, 0x1.5558cp-5f);
  p = fused_multiply_add(p, r, 0x1.555492p-3f);
  p = fused_multiply_add(p, r, 0x1.fffffcp-2f);
  const float y = fused_multiply_add(p, r * r, r) + 1.0f;
  // In two factors: 2^n itself may be subnormal or too large.
  const int32_t exponent = static_cast<int32_t>(bits_of(shifted) - bits_of(magic));
  const int32_t half = exponent >> 1;
  return y * numerics::power_of_two(half) * numerics::power_of_two(exponent - half);
}

MPT_HD float log_f32(float x) {
  const bool subnormal = x < 0x1p-126f;
  const float scaled = subnormal ? x * 0x1p23f : x;
  const int32_t e = numerics::binary_exponent(scaled);
  const float f = numerics::mantissa(scaled, e) - 1.0f;
  return numerics::log_limits(x, numerics::log_of_parts(static_cast<float>(subnormal ? e - 23 : e), f));
}

// log(1 + x), also for small x.
MPT_HD float log1p_f32(float x) {
  const float sum = x + 1.0f;
  const float part = sum - 1.0f;
  const float lost = (1.0f - (sum - part)) + (x - part);
  const int32_t e = numerics::binary_exponent(sum);
  // Beyond 2^60 what was lost no longer counts.
  const float f = (numerics::mantissa(sum, e) - 1.0f) + lost * numerics::power_of_two(e < 60 ? -e : -60);
  return numerics::log_limits(sum, numerics::log_of_parts(static_cast<float>(e), f));
}

MPT_HD float tanh_f32(float x) {
  const float magnitude = absolute(x);
  const float square = magnitude * magnitude;
  float p = -0x1.828776p-8f;
  p = fused_multiply_add(p, square, 0x1.54c3c2p-6f);
  p = fused_multiply_add(p, square, -0x1.b89abap-5f);
  p = fused_multiply_add(p, square, 0x1.1109bep-3f);
  p = fused_multiply_add(p, square, -0x1.55553ep-2f);
  const float small = fused_multiply_add(magnitude * square, p, magnitude);
  const float large = 1.0f - 2.0f / (exp_f32(2.0f * magnitude) + 1.0f);
  return with_sign_of(magnitude < 0.6f ? small : large, x);
}

// exp(-|x|) and 1 / (1 + exp(-|x|)): what sigmoid and its derivative are made of.
struct SigmoidParts {
  float e, r;
};
MPT_HD SigmoidParts sigmoid_parts(float x) {
  const float e = exp_f32(-absolute(x));
  return {e, 1.0f / (1.0f + e)};
}

// 1 / (1 + exp(-x)), with full relative precision below 0 too.
MPT_HD float sigmoid(float x) {
  const SigmoidParts s = sigmoid_parts(x);
  return x < 0 ? s.e * s.r : s.r;
}

// exp(-x * x / 2) and the normal distribution's mass beyond |x|.
struct NormalParts {
  float e, tail;
};
MPT_HD NormalParts normal_parts(float x) {
  const float magnitude = absolute(x);
  const float t = magnitude > 15.0f ? 15.0f : magnitude;  // there exp is 0; NaN passes
  const float square = t * t;
  const float lost = fused_multiply_add(t, t, -square);
  const float rounded = exp_f32(-0.5f * square);
  const float e = fused_multiply_add(rounded, -0.5f * lost, rounded);
  // The mass is e times a slowly falling function (half of erfcx(t / sqrt 2)), a quotient with positive coefficients.
  float p = 0x1.0ca21ep-8f;
  p = fused_multiply_add(p, t, 0x1.4be34ap-5f);
  p = fused_multiply_add(p, t, 0x1.768632p-3f);
  p = fused_multiply_add(p, t, 0x1.c04d5ap-2f);
  p = fused_multiply_add(p, t, 0.5f);
  float q = 0x1.50ad84p-7f;
  q = fused_multiply_add(q, t, 0x1.9ffca8p-4f);
  q = fused_multiply_add(q, t, 0x1.dfc2ccp-2f);
  q = fused_multiply_add(q, t, 0x1.33738cp+0f);
  q = fused_multiply_add(q, t, 0x1.ac68dcp+0f);
  q = fused_multiply_add(q, t, 1.0f);
  return {e, e * (p / q)};
}

// Phi, the normal distribution's function, with full relative precision below 0 too.
MPT_HD float normal_cdf(float x) {
  const NormalParts n = normal_parts(x);
  return x < 0 ? n.tail : 1.0f - n.tail;
}

MPT_HD float erf_f32(float x) {
  const float magnitude = absolute(x);
  const float square = magnitude * magnitude;
  float p = 0x1.49b02ap-14f;
  p = fused_multiply_add(p, square, -0x1.a4c2bcp-11f);
  p = fused_multiply_add(p, square, 0x1.5430c8p-8f);
  p = fused_multiply_add(p, square, -0x1.b7ff8ap-6f);
  p = fused_multiply_add(p, square, 0x1.ce2d5cp-4f);
  p = fused_multiply_add(p, square, -0x1.81274p-2f);
  p = fused_multiply_add(p, square, 0x1.06eba8p-3f);
  const float small = fused_multiply_add(magnitude, p, magnitude);
  const float large = 1.0f - 2.0f * normal_parts(magnitude * numerics::sqrt_2).tail;
  return with_sign_of(magnitude < 0.875f ? small : large, x);
}

}  // namespace mpt
