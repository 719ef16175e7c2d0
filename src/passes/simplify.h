// Clean-up that changes no result: unused nodes, equal nodes, copies that copy nothing, views of views.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace mpt {

// Removes nodes from which nothing leads to a kept value or a parameter's gradient, and the outputs of fused programs
// that nobody reads.
void remove_dead(Graph& graph, const std::vector<ValueId>& kept);

// Dead code, copies and reshapes without effect, double transposes, identical nodes (same op, attributes and inputs),
// until nothing changes. Kept values keep their producers.
void simplify(Graph& graph, const std::vector<ValueId>& kept);

}  // namespace mpt
