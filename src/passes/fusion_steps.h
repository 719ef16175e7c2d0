// The steps of the fusion pass. Each leaves the graph valid, with its dead nodes removed.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace mpt {

// How far a fusion may go in keeping more bytes alive between its nodes.
enum class Caution {
  fast,    // fewest passes over memory
  strict,  // nothing stays alive longer than what it replaces
};

void absorb_transposes(Graph& graph, const std::vector<ValueId>& kept);
void pack_attention(Graph& graph, const std::vector<ValueId>& kept);
void absorb_gradient_sums(Graph& graph, const std::vector<ValueId>& kept);
void fuse_chains(Graph& graph, const std::vector<ValueId>& kept, bool elementwise, bool epilogues, Caution caution);
void absorb_residuals(Graph& graph, const std::vector<ValueId>& kept, Caution caution);

}  // namespace mpt
