// Trades arithmetic for memory: activations are dropped after their last use in the forward pass and computed again
// in the backward pass. The copies run the same kernels with the same random numbers: results stay the same, bit for
// bit.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"

namespace mpt {

struct RecomputeReport {
  uint64_t activation_bytes = 0;  // planned peak afterwards, without scratch
  double extra_flops = 0;
  std::vector<ValueId> values;  // dropped and computed again
};

// Until the plan's activation_bytes are at most `activation_budget` (0: no limit, nothing is done). Throws
// OUT_OF_MEMORY, naming the least that can be reached, and leaves the graph alone, if that is impossible.
RecomputeReport recompute(Graph& graph, const std::vector<ValueId>& kept, uint64_t activation_budget);

}  // namespace mpt
