// Sums and gradients of element-wise losses at one instruction-set level. Plain C types only.
#pragma once

#include <cstdint>

#include "backend/cpu/isa/element.h"
#include "backend/cpu/isa/levels.h"

namespace mpt::cpu {

enum class PairLossKind : int32_t { mse, l1, bce };

struct PairLossTask {
  PairLossKind kind;
  Element x_type, target_type, dx_type, dtarget_type;
};

struct PairLossKernels {
  // The sum over elements [first, first + n), in double over blocks.
  double (*sum)(const PairLossTask& task, const void* x, const void* target, int64_t first, int64_t n);
  // Gradients times factor; dx or dtarget may be null, and each may lie over the input of its type if it is the only one.
  void (*grad)(const PairLossTask& task, const void* x, const void* target, float factor, int64_t first, int64_t n,
               void* dx, void* dtarget);
};

}  // namespace mpt::cpu

MPT_AT_EACH_LEVEL(PairLossKernels pair_loss_kernels();)
