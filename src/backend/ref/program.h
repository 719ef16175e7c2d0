// Runs a chain of element-wise steps on one element, in double.
#pragma once

#include "graph/attrs.h"
#include "kernels/numerics/step_vars.h"

namespace mpt::ref {

// registers[0 .. inputs-1] hold the inputs; the steps' results follow. `element` is the linear index in the output
// (dropout).
void run_program(const Program& program, double* registers, int64_t element, const StepVars& vars);

inline int register_count(const Program& program) { return program.inputs + static_cast<int>(program.steps.size()); }

}  // namespace mpt::ref
