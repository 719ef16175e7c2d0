// Softmax and log-softmax along one axis, and their gradients.
#pragma once

#include "kernels/element.h"
#include "kernels/launch.h"

namespace mpt::cuda {

// Tensors seen as [outer, n, inner]; softmax runs along n. Results may overwrite x, or y or dy.
struct SoftmaxArgs {
  const void* x;  // the gradient: y
  const void* dy;
  void* out;
  int64_t outer, inner;
  int32_t n;
  bool log;
  Element x_type, dy_type, out_type;
};

void softmax(const SoftmaxArgs& args, Stream stream);
void softmax_grad(const SoftmaxArgs& args, Stream stream);

}  // namespace mpt::cuda
