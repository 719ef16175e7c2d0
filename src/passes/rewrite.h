// Helpers by which the passes change a graph. Value ids never change; node ids are positions and do.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace mpt {

// Makes `nodes` ([0] unused, topological order) the graph's nodes and renews Value::producer.
void set_nodes(Graph& graph, std::vector<Node> nodes);

// Drops the nodes with dead[id] != 0.
void remove_nodes(Graph& graph, const std::vector<char>& dead);

// Moves every reshape of the backward pass, which costs nothing, to where its result is first read.
void sink_views(Graph& graph);

// Nodes that read each value, by value id, in order; a node that reads it twice is listed twice.
std::vector<std::vector<NodeId>> readers_of(const Graph& graph);

// By value id: is it one of `values`?
std::vector<char> flags_of(const Graph& graph, const std::vector<ValueId>& values);

// A value that must be there after the step: kept by the user, or a gradient that goes to the parameter store.
inline bool leaves_the_step(const Graph& graph, const std::vector<char>& kept, ValueId id) {
  return kept[id] || graph.value(id).role == Role::param_gradient;
}

}  // namespace mpt
