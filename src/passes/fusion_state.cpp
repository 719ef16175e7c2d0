#include "passes/fusion_state.h"

#include <algorithm>
#include <utility>

#include "passes/liveness.h"
#include "passes/rewrite.h"

namespace mpt {

FusionState::FusionState(Graph& graph, const std::vector<ValueId>& kept)
    : graph_(graph), dead_(graph.nodes.size(), 0), readers_(readers_of(graph)) {
  const std::vector<char> flags = flags_of(graph, kept);
  leaves_.assign(graph.values.size(), 0);
  for (ValueId v = 1; v < static_cast<ValueId>(graph.values.size()); ++v) leaves_[v] = leaves_the_step(graph, flags, v);
}

bool FusionState::is_wanted_beside(ValueId v, NodeId reader) const {
  if (leaves_[v]) return true;
  return std::any_of(readers_[v].begin(), readers_[v].end(), [&](NodeId n) { return n != reader; });
}

bool FusionState::are_neighbours(NodeId first, NodeId second) const {
  for (NodeId n = first + 1; n < second; ++n) {
    if (!dead_[n] && graph_.node(n).kind != OpKind::reshape) return false;
  }
  return true;
}

uint64_t FusionState::bytes(ValueId v) const {
  const Value& value = graph_.value(v);
  if (value.role != Role::input && value.role != Role::activation && value.role != Role::gradient) return 0;
  return aligned(static_cast<uint64_t>(value.shape.elements()) * size_of(value.dtype));
}

uint64_t FusionState::bytes_freed_by(NodeId n) const {
  std::vector<ValueId> seen;
  uint64_t sum = 0;
  for (ValueId v : graph_.node(n).inputs) {
    if (v == none || leaves_[v] || readers_[v].back() > n) continue;
    if (std::find(seen.begin(), seen.end(), v) != seen.end()) continue;
    seen.push_back(v);
    sum += bytes(v);
  }
  return sum;
}

void FusionState::unlink(NodeId n) {
  for (ValueId v : graph_.node(n).inputs) {
    if (v == none) continue;
    auto& list = readers_[v];
    list.erase(std::remove(list.begin(), list.end(), n), list.end());
  }
  for (ValueId v : graph_.node(n).outputs) {
    if (v != none) graph_.value(v).producer = none;
  }
}

void FusionState::link(NodeId n) {
  for (ValueId v : graph_.node(n).inputs) {
    if (v == none) continue;
    auto& list = readers_[v];
    list.insert(std::upper_bound(list.begin(), list.end(), n), n);
  }
  for (ValueId v : graph_.node(n).outputs) {
    if (v != none) graph_.value(v).producer = n;
  }
}

void FusionState::replace(NodeId at, Node node, NodeId gone) {
  unlink(at);
  if (gone != none && gone != at) {
    unlink(gone);
    dead_[gone] = 1;
  }
  graph_.node(at) = std::move(node);
  link(at);
}

void FusionState::finish() { remove_nodes(graph_, dead_); }

}  // namespace mpt
