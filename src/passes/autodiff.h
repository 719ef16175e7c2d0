// Reverse-mode differentiation: adds the backward nodes of a loss to its graph.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace mpt {

struct Differentiated {
  // By parameter slot: the value with role param_gradient; none where the loss doesn't depend on the parameter or it was not asked for.
  std::vector<ValueId> parameter_gradients;
  // By id of a forward value: its gradient (of scale * loss); none where there is none.
  std::vector<ValueId> gradient_of;
};

struct DifferentiateOptions {
  double weight = 1;             // factor on the loss
  bool accumulate = false;       // gradients are added up over micro-steps in FP32
  std::vector<bool> parameters;  // by slot: differentiate with respect to it; empty: all
  std::vector<ValueId> inputs;   // further values whose gradients are wanted (tests)
};

// The loss must have one element. The backward pass is seeded with weight * loss scale, in FP32. A value with several consumers
// gets its gradient summed in FP32 and rounded once.
Differentiated differentiate(Graph& graph, ValueId loss, const DifferentiateOptions& options);

}  // namespace mpt
