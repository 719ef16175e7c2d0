// How a reduction walks its input: merged axes, cut into pieces whose size depends on the shape alone.
#pragma once

#include <cstdint>

#include "core/shape.h"
#include "graph/attrs.h"

namespace mpt::cpu {

// Axes that are walked in row-major order, with the distance of their elements in the input.
struct AxisWalk {
  int rank = 0;
  int64_t size[Shape::max_rank] = {}, stride[Shape::max_rank] = {};
  int64_t count = 1;  // positions

  void append(int64_t axis_size, int64_t axis_stride);
  int64_t offset(int64_t position) const;  // in elements
};

// The input as [kept..., reduced..., run]: `run` is the innermost merged axis, contiguous, of either kind; the others of each
// kind are walked.
struct ReduceLayout {
  ReduceLayout(const Shape& x, const std::vector<int>& axes);

  AxisWalk kept, reduced;  // without the run
  int64_t run = 1;
  bool run_is_kept = true;
  int64_t reduced_elements = 1;  // of each output element, the run's included
  int64_t outputs = 1;
};

}  // namespace mpt::cpu
