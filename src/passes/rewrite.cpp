#include "passes/rewrite.h"

#include <functional>
#include <utility>

namespace mpt {

void set_nodes(Graph& graph, std::vector<Node> nodes) {
  graph.nodes = std::move(nodes);
  for (Value& v : graph.values) v.producer = none;
  for (NodeId n = 1; n < static_cast<NodeId>(graph.nodes.size()); ++n) {
    for (ValueId out : graph.node(n).outputs) {
      if (out != none) graph.value(out).producer = n;
    }
  }
}

void remove_nodes(Graph& graph, const std::vector<char>& dead) {
  std::vector<Node> nodes;
  nodes.reserve(graph.nodes.size());
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    if (!dead[n]) nodes.push_back(std::move(graph.nodes[n]));
  }
  set_nodes(graph, std::move(nodes));
}

void sink_views(Graph& graph) {
  std::vector<Node> nodes(1);
  nodes.reserve(graph.nodes.size());
  std::vector<char> placed(graph.nodes.size(), 0);
  const auto is_view = [&](NodeId n) { return graph.node(n).kind == OpKind::reshape && graph.node(n).backward; };
  const std::function<void(NodeId)> place = [&](NodeId n) {
    placed[n] = 1;
    for (ValueId in : graph.node(n).inputs) {
      const NodeId producer = in == none ? none : graph.value(in).producer;
      if (producer != none && is_view(producer) && !placed[producer]) place(producer);
    }
    nodes.push_back(graph.node(n));
  };
  for (NodeId n = 1; n < static_cast<NodeId>(graph.nodes.size()); ++n) {
    if (!is_view(n)) place(n);
  }
  for (NodeId n = 1; n < static_cast<NodeId>(graph.nodes.size()); ++n) {
    if (!placed[n]) place(n);  // nobody reads it: the user does
  }
  set_nodes(graph, std::move(nodes));
}

std::vector<std::vector<NodeId>> readers_of(const Graph& graph) {
  std::vector<std::vector<NodeId>> readers(graph.values.size());
  for (NodeId n = 1; n < static_cast<NodeId>(graph.nodes.size()); ++n) {
    for (ValueId in : graph.node(n).inputs) {
      if (in != none) readers[in].push_back(n);
    }
  }
  return readers;
}

std::vector<char> flags_of(const Graph& graph, const std::vector<ValueId>& values) {
  std::vector<char> flags(graph.values.size(), 0);
  for (ValueId v : values) {
    if (v != none) flags[v] = 1;
  }
  return flags;
}

}  // namespace mpt
