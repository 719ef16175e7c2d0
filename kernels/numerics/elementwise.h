// The element-wise functions by number, shared by the compiler, the backends and the CUDA kernels; and what each of them
// computes, in FP32.
#pragma once

#include <stdint.h>

#include "kernels/numerics/math.h"

namespace mpt {

enum class Ewise : uint8_t {
  // one operand a
  copy,        // a
  scale,       // p * a + q, rounded once
  relu,        // max(a, 0)
  leaky_relu,  // a > 0 ? a : p * a
  gelu,        // a * Phi(a)
  gelu_tanh,
  silu,
  sigmoid,
  tanh,
  exp,
  log,
  sqrt,
  square,
  clamp,    // min(max(a, p), q)
  dropout,  // a * (keep ? 1 / (1 - p) : 0); p is the rate; the same mask forward and backward
  // two operands
  add,  // a + b
  sub,  // a - b
  mul,  // a * b
  div,  // a / b
  // gradients: a is the gradient of the output; b is the input x or the output y
  relu_grad,        // b = y: a where y > 0, else 0
  leaky_relu_grad,  // b = x, p slope
  gelu_grad,        // b = x
  gelu_tanh_grad,   // b = x
  silu_grad,        // b = x
  sigmoid_grad,     // b = y: a * y * (1 - y)
  tanh_grad,        // b = y: a * (1 - y * y)
  log_grad,         // b = x: a / x
  sqrt_grad,        // b = y: a / (2 y)
  square_grad,      // b = x: 2 a x
  clamp_grad,       // b = x: a where p <= x <= q, else 0
  count_
};

MPT_HD constexpr bool has_two_operands(Ewise e) { return e >= Ewise::add; }
MPT_HD constexpr bool is_gradient(Ewise e) { return e >= Ewise::relu_grad; }

// One function each. NaN passes through all of them.
namespace scalar {

MPT_HD float scale(float a, float p, float q) { return fused_multiply_add(p, a, q); }
MPT_HD float relu(float a) { return a < 0 ? 0.0f : a; }
MPT_HD float leaky_relu(float a, float p) { return a > 0 ? a : p * a; }
MPT_HD float gelu(float a) { return a * normal_cdf(a); }
MPT_HD float silu(float a) { return a * sigmoid(a); }
MPT_HD float square(float a) { return a * a; }
MPT_HD float clamp(float a, float p, float q) {
  const float low = a < p ? p : a;
  return low > q ? q : low;
}
// u: the element's uniform random number, p: the rate, factor: dropout_factor(p).
MPT_HD float dropout_factor(float p) { return 1.0f / (1.0f - p); }
MPT_HD float dropout(float a, float u, float p, float factor) { return a * (u < p ? 0.0f : factor); }

// 0.5 (1 + tanh(u)) is sigmoid(2 u), which keeps its precision far below 0. inner is 2 u = 2 sqrt(2/pi) (x + 0.044715 x^3).
constexpr float gelu_tanh_linear = 0x1.988454p+0f, gelu_tanh_cubic = 0x1.2444f2p-4f;
MPT_HD float gelu_tanh_inner(float x) { return x * fused_multiply_add(gelu_tanh_cubic, x * x, gelu_tanh_linear); }
MPT_HD float gelu_tanh(float a) { return a * sigmoid(gelu_tanh_inner(a)); }

MPT_HD float relu_grad(float a, float y) { return y > 0 ? a : 0.0f; }
MPT_HD float leaky_relu_grad(float a, float x, float p) { return x > 0 ? a : p * a; }
MPT_HD float gelu_grad(float a, float x) {
  const NormalParts n = normal_parts(x);
  const float cdf = x < 0 ? n.tail : 1.0f - n.tail;
  const float density = 0x1.988454p-2f * n.e;
  return a * fused_multiply_add(x, density, cdf);
}
MPT_HD float gelu_tanh_grad(float a, float x) {
  // Beyond +-100 the slope is 0 or 1; the clamp keeps x^2 finite.
  const float t = clamp(x, -100.0f, 100.0f);
  const float inner = gelu_tanh_inner(t);
  const SigmoidParts s = sigmoid_parts(inner);
  const float value = inner < 0 ? s.e * s.r : s.r;
  const float slope = fused_multiply_add(3.0f * gelu_tanh_cubic, t * t, gelu_tanh_linear);
  return a * fused_multiply_add(t * slope, s.e * s.r * s.r, value);
}
MPT_HD float silu_grad(float a, float x) {
  const SigmoidParts s = sigmoid_parts(x);
  const float value = x < 0 ? s.e * s.r : s.r;
  return a * fused_multiply_add(x, s.e * s.r * s.r, value);
}
MPT_HD float sigmoid_grad(float a, float y) { return a * (y * (1.0f - y)); }
MPT_HD float tanh_grad(float a, float y) { return a * fused_multiply_add(-y, y, 1.0f); }
MPT_HD float log_grad(float a, float x) { return a / x; }
MPT_HD float sqrt_grad(float a, float y) { return a / (2.0f * y); }
MPT_HD float square_grad(float a, float x) { return 2.0f * a * x; }
MPT_HD float clamp_grad(float a, float x, float p, float q) { return x >= p && x <= q ? a : 0.0f; }

}  // namespace scalar

// Any of them by number. dropout: b is the element's uniform random number.
MPT_HD float apply(Ewise op, float a, float b, float p, float q) {
  switch (op) {
    case Ewise::copy:
      return a;
    case Ewise::scale:
      return scalar::scale(a, p, q);
    case Ewise::relu:
      return scalar::relu(a);
    case Ewise::leaky_relu:
      return scalar::leaky_relu(a, p);
    case Ewise::gelu:
      return scalar::gelu(a);
    case Ewise::gelu_tanh:
      return scalar::gelu_tanh(a);
    case Ewise::silu:
      return scalar::silu(a);
    case Ewise::sigmoid:
      return sigmoid(a);
    case Ewise::tanh:
      return tanh_f32(a);
    case Ewise::exp:
      return exp_f32(a);
    case Ewise::log:
      return log_f32(a);
    case Ewise::sqrt:
      return square_root(a);
    case Ewise::square:
      return scalar::square(a);
    case Ewise::clamp:
      return scalar::clamp(a, p, q);
    case Ewise::dropout:
      return scalar::dropout(a, b, p, scalar::dropout_factor(p));
    case Ewise::add:
      return a + b;
    case Ewise::sub:
      return a - b;
    case Ewise::mul:
      return a * b;
    case Ewise::div:
      return a / b;
    case Ewise::relu_grad:
      return scalar::relu_grad(a, b);
    case Ewise::leaky_relu_grad:
      return scalar::leaky_relu_grad(a, b, p);
    case Ewise::gelu_grad:
      return scalar::gelu_grad(a, b);
    case Ewise::gelu_tanh_grad:
      return scalar::gelu_tanh_grad(a, b);
    case Ewise::silu_grad:
      return scalar::silu_grad(a, b);
    case Ewise::sigmoid_grad:
      return scalar::sigmoid_grad(a, b);
    case Ewise::tanh_grad:
      return scalar::tanh_grad(a, b);
    case Ewise::log_grad:
      return scalar::log_grad(a, b);
    case Ewise::sqrt_grad:
      return scalar::sqrt_grad(a, b);
    case Ewise::square_grad:
      return scalar::square_grad(a, b);
    case Ewise::clamp_grad:
      return scalar::clamp_grad(a, b, p, q);
    case Ewise::count_:
      break;
  }
  return a;
}

}  // namespace mpt
