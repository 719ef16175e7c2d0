// Clean-up that changes no result: unused nodes, equal nodes, copies that copy nothing, views of views.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace mpt {

// Removes nodes none of whose outputs leaves the step (kept values, gradients of parameters), and sets optional outputs that
// nobody reads to none.
void remove_dead(Graph& graph, const std::vector<ValueId>& kept);

// Dead code, copies and reshapes without effect, double transposes, identical nodes (same op, attributes and inputs), until
// nothing changes. Kept values keep their producers.
void simplify(Graph& graph, const std::vector<ValueId>& kept);

}  // namespace mpt
