// The merged axes of a reduction.
#pragma once

#include <vector>

#include "core/shape.h"
#include "kernels/reduce.h"

namespace mpt::cuda {

// No axis of x may be empty.
ReduceShape reduce_shape(const Shape& x, const std::vector<int>& axes);

}  // namespace mpt::cuda
