// Sum, mean and maximum over any axes, and the gradient of the maximum.
#pragma once

#include "kernels/element.h"
#include "kernels/launch.h"

namespace mpt::cuda {

// Axes that are walked in row-major order, with the distance of their elements in the input.
struct AxisWalk {
  static constexpr int max_rank = 4;  // merged axes of the two kinds alternate, and the innermost is the run
  int32_t rank;
  int64_t size[max_rank], stride[max_rank];
  int64_t count;  // positions
};

// The input as [kept..., reduced..., run]: `run` is the innermost merged axis, contiguous, of either kind; the others of each
// kind are walked. No axis is empty.
struct ReduceShape {
  AxisWalk kept, reduced;  // without the run
  int64_t run;
  bool run_is_kept;
  int64_t outputs;
};

struct ReduceArgs {
  const void* x;
  void* y;
  Element x_type, y_type;
  bool max;
  float divisor;  // of the mean; 1: none
  void* scratch;  // reduce_scratch(shape) bytes
};

uint64_t reduce_scratch(const ReduceShape& shape);
void reduce(const ReduceShape& shape, const ReduceArgs& args, Stream stream);
// Of an empty input: y[i] = value.
void reduce_nothing(void* y, Element y_type, int64_t outputs, float value, Stream stream);

// The gradient goes to the first of the equal elements, in the row-major order of the reduced axes; a NaN counts as the
// largest.
struct ReduceMaxGradArgs {
  const void *x, *dy;
  void* dx;
  Element x_type, dy_type, dx_type;
  void* scratch;  // reduce_max_grad_scratch(shape) bytes
};

uint64_t reduce_max_grad_scratch(const ReduceShape& shape);
void reduce_max_grad(const ReduceShape& shape, const ReduceMaxGradArgs& args, Stream stream);

}  // namespace mpt::cuda
