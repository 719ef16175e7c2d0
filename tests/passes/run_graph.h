// Runs a compiled graph on a backend, laid out by its memory plan, with made-up inputs and parameters.
#pragma once

#include <map>
#include <vector>

#include "backend/backend.h"
#include "graph/graph.h"

namespace mpt::test {

// What a step leaves behind, by value id: the kept values and the gradients of parameters, widened to double.
using Results = std::map<ValueId, std::vector<double>>;

// Contents depend on names alone: graphs made from one network get the same. The workspace is filled with NaNs before.
Results run_graph(Backend& backend, const Graph& graph, const std::vector<ValueId>& kept);

// What the backend's kernels ask for, by node.
std::vector<uint64_t> scratch_of(Backend& backend, const Graph& graph);

Backend& cpu_backend();
Backend& ref_backend();

}  // namespace mpt::test
