// The order of the backward pass: of the nodes that can run, the one that leaves the fewest bytes alive goes first,
// so that, for example, a weight gradient is formed as soon as its output gradient is there and that one dies.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace mpt {

// Deterministic; forward nodes keep their order, and the others theirs if the new one's peak is not lower.
void order_nodes(Graph& graph, const std::vector<ValueId>& kept);

}  // namespace mpt
