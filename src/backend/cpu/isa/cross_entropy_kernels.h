// Rows of softmax cross-entropy at one instruction-set level. Plain C types only.
#pragma once

#include <cstdint>

#include "backend/cpu/isa/element.h"
#include "backend/cpu/isa/levels.h"

namespace mpt::cpu {

struct CrossEntropyTask {
  int64_t classes;
  float smoothing;  // share of the uniform distribution in the target
  int32_t ignore_index;
  Element logits_type, dlogits_type;
};

struct CrossEntropyKernels {
  // Of rows [first, last): the loss (0 where the label is ignored, NaN where it is no class) and the logarithm of the sum of
  // exponentials.
  void (*rows)(const CrossEntropyTask& task, const void* logits, const int32_t* labels, int64_t first, int64_t last,
               float* losses, float* logsumexp);
  // dlogits = factor * (softmax - target); 0 in ignored rows. May overwrite the logits.
  void (*rows_grad)(const CrossEntropyTask& task, const void* logits, const int32_t* labels, const float* logsumexp,
                    float factor, int64_t first, int64_t last, void* dlogits);
};

}  // namespace mpt::cpu

MPT_AT_EACH_LEVEL(CrossEntropyKernels cross_entropy_kernels();)
