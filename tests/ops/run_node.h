// Runs one node of a graph on a backend, in guarded memory.
#pragma once

#include <string>
#include <vector>

#include "backend/backend.h"
#include "ops/array.h"
#include "support/devices.h"

namespace mpt::test {

// Which outputs lie in the memory of which inputs: inputs[output], or -1.
using Sharing = std::vector<int>;

struct NodeRun {
  std::vector<Array> outputs;  // empty arrays for outputs that are none
  std::string complaint;       // what the guards say: a write beside a buffer, a changed input; empty: nothing
};

// `inputs` by position (empty arrays for none), in the storage types of the graph. Outputs and scratch hold `poison`
// before, unless `initial` gives contents (accumulators).
NodeRun run_node(Backend& backend, const Graph& graph, const Node& node, const std::vector<Array>& inputs,
                 const StepVars& vars, unsigned char poison, const Sharing& sharing = {},
                 const Array* initial = nullptr);

// All ways in which the op allows outputs to share the memory of inputs: one output, and two at once.
std::vector<Sharing> allowed_sharing(const Graph& graph, const Node& node);

// A backend of so many threads; made once.
Backend& cpu_backend(int threads);
Backend& ref_backend();

// What the tables run on: tested_device(). Variants give the same bits: of "cpu" the number of threads, of "emu" the
// seed of the order in which threads run.
Backend& tested_backend(int variant);

}  // namespace mpt::test
