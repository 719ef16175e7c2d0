// The ends of the backward pass: its seed and the gradients' accumulators.
#pragma once

#include "kernels/element.h"
#include "kernels/launch.h"
#include "kernels/numerics/step_vars.h"

namespace mpt::cuda {

// *out = weight * loss scale * loss weight
void loss_seed(double weight, const StepVars* vars, float* out, Stream stream);

// sums[i] = x[i] in an update's first micro-step, sums[i] += x[i] in the others.
void accumulate(const void* x, Element type, int64_t n, const StepVars* vars, float* sums, Stream stream);

}  // namespace mpt::cuda
