// Update rules of the optimizers, per element, in FP32.
#pragma once

#include <stdint.h>

namespace mpt {

struct OptimizerHyper {
  int32_t kind = 0;  // MPT_SGD ...
  float beta1 = 0, beta2 = 0, epsilon = 0;
  float momentum = 0;
  bool nesterov = false;
};

}  // namespace mpt
