// A graph while nodes of it are being merged: who reads what, which nodes are gone.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace mpt {

class FusionState {
 public:
  FusionState(Graph& graph, const std::vector<ValueId>& kept);

  Graph& graph() { return graph_; }
  NodeId size() const { return static_cast<NodeId>(graph_.nodes.size()); }
  bool is_dead(NodeId n) const { return dead_[n] != 0; }
  const std::vector<NodeId>& readers(ValueId v) const { return readers_[v]; }
  // Must it be stored for somebody else than `reader`?
  bool is_wanted_beside(ValueId v, NodeId reader) const;
  // Is it there before node n runs?
  bool is_ready_at(ValueId v, NodeId n) const { return graph_.value(v).producer < n; }
  // Is nothing run between the two?
  bool are_neighbours(NodeId first, NodeId second) const;
  uint64_t bytes(ValueId v) const;
  // Bytes of the workspace that node n is the last to read.
  uint64_t bytes_freed_by(NodeId n) const;

  // Node `at` becomes `node`; `gone` (with its outputs that `node` doesn't have) is removed.
  void replace(NodeId at, Node node, NodeId gone);
  void finish();  // removes what is dead

 private:
  void unlink(NodeId n);
  void link(NodeId n);

  Graph& graph_;
  std::vector<char> leaves_;                  // by value
  std::vector<char> dead_;                    // by node
  std::vector<std::vector<NodeId>> readers_;  // by value, sorted
};

}  // namespace mpt
