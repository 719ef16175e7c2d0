// Losses of a tensor and a target of the same shape, and their gradients.
#pragma once

#include "kernels/element.h"
#include "kernels/launch.h"

namespace mpt::cuda {

enum class PairLossKind : int32_t { mse, l1, bce };

struct PairLossArgs {
  const void *x, *target;
  int64_t elements;
  PairLossKind kind;
  bool mean;
  Element x_type, target_type;
  // ---- forward
  float* loss;
  double* parts;  // pair_loss_parts(elements) numbers
  // ---- backward; either may be null, and each may lie over the input of its type if it is the only one
  const float* dloss;
  void *dx, *dtarget;
  Element dx_type, dtarget_type;
};

int64_t pair_loss_parts(int64_t elements);
void pair_loss(const PairLossArgs& args, Stream stream);
void pair_loss_grad(const PairLossArgs& args, Stream stream);

}  // namespace mpt::cuda
