// Update rules of the optimizers, per element, in FP32. docs/formulas.md has the formulas.
//
// Each rule reads an unscaled, clipped gradient g and the weight w, changes its moments, and returns the update u; the
// weight becomes w + u. Written without fused operations, so that every instruction set and device gives the same bits.
#pragma once

#include "kernels/numerics/math.h"
#include "mpt.h"

namespace mpt {

struct OptimizerHyper {
  int32_t kind = MPT_ADAMW;
  double beta1 = 0, beta2 = 0;  // double: 1 - 0.999f is wrong by 1e-5 already
  float epsilon = 0;
  float momentum = 0;
  bool nesterov = false;
};

// What is the same for all elements of a tensor in one update.
struct RuleConstants {
  float rate = 0;   // learning rate of the tensor
  float decay = 0;  // weight decay of the tensor
  float momentum = 0;
  float beta1 = 0, rest1 = 0;  // rest = 1 - beta
  float beta2 = 0, rest2 = 0;
  float epsilon = 0;
  float correction1 = 1;  // 1 / (1 - beta1^t)
  float correction2 = 1;  // 1 / sqrt(1 - beta2^t)
};

// base^exponent by squaring: the same bits everywhere.
MPT_HD double integer_power(double base, uint64_t exponent) {
  double power = 1;
  for (; exponent != 0; exponent >>= 1) {
    if (exponent & 1) power *= base;
    base *= base;
  }
  return power;
}

// `step` counts applied updates, this one included.
MPT_HD RuleConstants rule_constants(const OptimizerHyper& hyper, double learning_rate, float learning_rate_factor,
                                    float weight_decay, uint64_t step) {
  RuleConstants c;
  c.rate = static_cast<float>(learning_rate * static_cast<double>(learning_rate_factor));
  c.decay = weight_decay;
  c.momentum = hyper.momentum;
  c.beta1 = static_cast<float>(hyper.beta1);
  c.rest1 = static_cast<float>(1.0 - hyper.beta1);
  c.beta2 = static_cast<float>(hyper.beta2);
  c.rest2 = static_cast<float>(1.0 - hyper.beta2);
  c.epsilon = hyper.epsilon;
  if (hyper.kind == MPT_ADAM || hyper.kind == MPT_ADAMW || hyper.kind == MPT_LAMB) {
    c.correction1 = static_cast<float>(1.0 / (1.0 - integer_power(hyper.beta1, step)));
    c.correction2 = static_cast<float>(1.0 / square_root_f64(1.0 - integer_power(hyper.beta2, step)));
  }
  return c;
}

// The gradient as the rules take it. clip_value 0: not clipped by value. Finite gradients only.
MPT_HD float unscaled_gradient(float stored, float inverse_scale, float clip_value, float clip_factor) {
  float g = stored * inverse_scale;
  if (clip_value > 0) g = g > clip_value ? clip_value : g < -clip_value ? -clip_value : g;
  return g * clip_factor;
}

// ---- rules. `m` and `v` are the moments.

MPT_HD float sgd_rule(const RuleConstants& c, float g, float w) { return -(c.rate * (g + c.decay * w)); }

MPT_HD float sgd_momentum_rule(const RuleConstants& c, bool nesterov, float g, float w, float& m) {
  const float d = g + c.decay * w;
  m = c.momentum * m + d;
  return -(c.rate * (nesterov ? d + c.momentum * m : m));
}

// Moves both moments and returns the corrected direction m^ / (sqrt(v^) + epsilon).
MPT_HD float adam_direction(const RuleConstants& c, float g, float& m, float& v) {
  m = c.beta1 * m + c.rest1 * g;
  v = c.beta2 * v + c.rest2 * g * g;
  return m * c.correction1 / (square_root(v) * c.correction2 + c.epsilon);
}

MPT_HD float adam_rule(const RuleConstants& c, float g, float w, float& m, float& v) {
  return -(c.rate * adam_direction(c, g + c.decay * w, m, v));
}

MPT_HD float adamw_rule(const RuleConstants& c, float g, float w, float& m, float& v) {
  return -(c.rate * (adam_direction(c, g, m, v) + c.decay * w));
}

// LAMB's first pass; the second takes -(rate * trust ratio) times this.
MPT_HD float lamb_direction(const RuleConstants& c, float g, float w, float& m, float& v) {
  return adam_direction(c, g, m, v) + c.decay * w;
}
// The same again from the moments that the first pass left.
MPT_HD float lamb_direction_again(const RuleConstants& c, float w, float m, float v) {
  return m * c.correction1 / (square_root(v) * c.correction2 + c.epsilon) + c.decay * w;
}
// 1 where one of the norms is zero: such a tensor would never move, or has no direction.
MPT_HD float lamb_trust_ratio(double weights_squared, double directions_squared) {
  if (!(weights_squared > 0) || !(directions_squared > 0)) return 1;
  return static_cast<float>(square_root_f64(weights_squared) / square_root_f64(directions_squared));
}

MPT_HD float adagrad_rule(const RuleConstants& c, float g, float w, float& v) {
  const float d = g + c.decay * w;
  v = v + d * d;
  return -(c.rate * (d / (square_root(v) + c.epsilon)));
}

// NovoGrad's second moment is one number per tensor: of the squared norm of its gradient, from the first that is not
// zero on.
MPT_HD float novograd_moment(const RuleConstants& c, double gradient_squared, float v) {
  const float squared = static_cast<float>(gradient_squared);
  return v > 0 ? c.beta2 * v + c.rest2 * squared : squared;
}
// `factor` is 1 / (sqrt(v) + epsilon); a tensor whose gradients were all zero has none: 0.
MPT_HD float novograd_factor(const RuleConstants& c, float v) {
  const float root = square_root(v) + c.epsilon;
  return root > 0 ? 1.0f / root : 0.0f;
}
MPT_HD float novograd_rule(const RuleConstants& c, float factor, float g, float w, float& m) {
  m = c.beta1 * m + (g * factor + c.decay * w);
  return -(c.rate * m);
}

MPT_HD float lion_rule(const RuleConstants& c, float g, float w, float& m) {
  const float x = c.beta1 * m + c.rest1 * g;
  const float sign = x > 0 ? 1.0f : x < 0 ? -1.0f : 0.0f;
  m = c.beta2 * m + c.rest2 * g;
  return -(c.rate * (sign + c.decay * w));
}

// Which moments an optimizer keeps.
MPT_HD bool has_moment1(const OptimizerHyper& h) { return h.kind == MPT_SGD ? h.momentum != 0 : h.kind != MPT_ADAGRAD; }
MPT_HD bool has_moment2(const OptimizerHyper& h) {  // one number per element
  return h.kind == MPT_ADAM || h.kind == MPT_ADAMW || h.kind == MPT_LAMB || h.kind == MPT_ADAGRAD;
}
MPT_HD bool has_tensor_moment2(const OptimizerHyper& h) { return h.kind == MPT_NOVOGRAD; }  // one number per tensor

// a weight average after the weight has become w.
MPT_HD float moved_average(float average, float decay, float rest, float w) { return decay * average + rest * w; }

// Finite in FP32, infinite once it is rounded to FP16 or BF16: from half a unit above the greatest number on.
MPT_HD bool overflows_f16(float w) {
  const uint32_t magnitude = bits_of(w) & 0x7fffffffu;
  return magnitude >= 0x477ff000u && magnitude < 0x7f800000u;  // 65520
}
MPT_HD bool overflows_bf16(float w) {
  const uint32_t magnitude = bits_of(w) & 0x7fffffffu;
  return magnitude >= 0x7f7f8000u && magnitude < 0x7f800000u;
}
// Written by the exponent, so that NaN cannot slip through a comparison.
MPT_HD bool is_finite(float x) { return (bits_of(x) & 0x7f800000u) != 0x7f800000u; }

}  // namespace mpt
