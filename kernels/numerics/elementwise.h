// The element-wise functions by number, shared by the compiler, the backends and the CUDA kernels.
#pragma once

#include <stdint.h>

namespace mpt {

enum class Ewise : uint8_t {
  // one operand a
  copy,        // a
  scale,       // p * a + q
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
  clamp,       // min(max(a, p), q)
  dropout,     // a * (keep ? 1 / (1 - p) : 0); p is the rate; the same mask forward and backward
  // two operands
  add,         // a + b
  sub,         // a - b
  mul,         // a * b
  div,         // a / b
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

constexpr bool has_two_operands(Ewise e) { return e >= Ewise::add; }
constexpr bool is_gradient(Ewise e) { return e >= Ewise::relu_grad; }

}  // namespace mpt
