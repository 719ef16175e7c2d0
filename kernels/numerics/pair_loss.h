// The losses of two numbers, and their derivatives by each of them. NaN passes through all of them.
#pragma once

#include "kernels/numerics/math.h"

namespace mpt {

struct SquaredError {
  MPT_HD float value(float x, float t) { return (x - t) * (x - t); }
  MPT_HD float by_x(float x, float t) { return 2 * (x - t); }
  MPT_HD float by_target(float x, float t) { return 2 * (t - x); }
};

struct AbsoluteError {
  MPT_HD float value(float x, float t) { return absolute(x - t); }
  MPT_HD float by_x(float x, float t) {
    const float d = x - t;
    const float rest = 0.0f * d;  // 0, or NaN
    return d > 0 ? 1.0f : d < 0 ? -1.0f : rest;
  }
  MPT_HD float by_target(float x, float t) { return by_x(t, x); }
};

// x is a logit.
struct BinaryCrossEntropy {
  MPT_HD float value(float x, float t) {
    const float positive = x < 0 ? 0.0f : x;
    return positive - x * t + log1p_f32(exp_f32(-absolute(x)));
  }
  MPT_HD float by_x(float x, float t) { return sigmoid(x) - t; }
  MPT_HD float by_target(float x, float) { return -x; }
};

}  // namespace mpt
