// How far an FP32 kernel may be from the exact result, element by element: derived from the number of roundings, the
// lengths of sums and the condition of each op, in any order of summation.
#pragma once

#include <vector>

#include "graph/graph.h"
#include "kernels/numerics/step_vars.h"
#include "ops/array.h"

namespace mpt::test {

using Values = std::vector<double>;

// For each output of the node, the largest error of FP32 arithmetic before the result is stored: 0 where only moves and
// comparisons happen, so that the result must be the exact one, rounded once. `outputs` are the exact results.
std::vector<Values> arithmetic_error(const Graph& graph, const Node& node, const std::vector<Values>& inputs,
                                     const std::vector<Values>& outputs, const StepVars& vars);

// May `found` be what a kernel stored as `dtype` where the exact result is `exact`, given the arithmetic's error?
bool is_within(double found, double exact, double error, DType dtype);

}  // namespace mpt::test
