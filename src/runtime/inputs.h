// A step's inputs: matched by name, their sizes bound to the named dimensions, converted into the workspace.
#pragma once

#include <map>
#include <string>

#include "runtime/plan.h"

namespace mpt {

using Sizes = std::map<std::string, int64_t>;

// Checks every array against the input of its name and returns the sizes of named dimensions. Throws INVALID_ARGUMENT for an
// unknown or repeated name, a shape or dtype that doesn't fit, two sizes for one name, or a size of 0.
Sizes bind_sizes(const Graph& model, const Backend& backend, const mpt_array* inputs, int32_t n_inputs);

// Throws INVALID_ARGUMENT for a constant with a label or index outside of what it picks from.
void check_constants(const Graph& graph);

// Throws INVALID_ARGUMENT if the plan needs an input that was not given, or (strict) if one was given that it doesn't need.
void check_inputs_complete(const Plan& plan, const mpt_array* inputs, int32_t n_inputs, bool strict);

// Converts the inputs that the plan needs to where it reads them, and checks labels and indices against the tables they
// pick from. Throws INVALID_ARGUMENT with the element, the value and the range.
void stage_inputs(const Plan& plan, Backend& backend, const mpt_array* inputs, int32_t n_inputs);

}  // namespace mpt
