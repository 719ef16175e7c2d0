// From the model as the user described it to a graph of actual sizes.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace mpt {

struct Instance {
  Graph graph;
  std::vector<ValueId> value_of;  // by id in the model: the value here; none where it isn't needed
};

struct InstantiateOptions {
  std::vector<ValueId> outputs;          // of the model: what is computed; the rest is left out
  std::map<std::string, int64_t> sizes;  // of named dimensions
  bool training = true;                  // false: dropout is the identity
};

// Runs every shape rule again on actual sizes: conflicts that names had hidden are told here, with op and shapes. Slots of inputs,
// constants and parameters are those of the model; unneeded ones have no value. Throws INVALID_ARGUMENT.
Instance instantiate(const Graph& model, const InstantiateOptions& options);

}  // namespace mpt
