#include "graph/graph.h"

#include "graph/op_def.h"

namespace mpt {

Graph::Graph() : values(1), nodes(1) {}

Value& Graph::value(ValueId id) {
  MPT_INVARIANT(valid(id));
  return values[id];
}

const Value& Graph::value(ValueId id) const {
  MPT_INVARIANT(valid(id));
  return values[id];
}

ValueId Graph::add_value(Value value) {
  values.push_back(std::move(value));
  return static_cast<ValueId>(values.size()) - 1;
}

NodeId Graph::add(OpKind kind, const std::string& name, Attrs attrs, std::vector<ValueId> inputs) {
  const OpDef& def = op_def(kind);
  const NodeId id = static_cast<NodeId>(nodes.size());
  Node node;
  node.kind = kind;
  node.name = name.empty() ? std::string(def.name) + "_" + std::to_string(id) : name;
  node.attrs = std::move(attrs);
  node.inputs = std::move(inputs);
  node.backward = building_backward;
  node.keep_fp32 = building_keep_fp32;
  node.stream_id = building_stream_id;

  const std::vector<OutputInfo> outputs = def.infer(*this, node);  // throws before anything is changed
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].wanted) {
      node.outputs.push_back(none);
      continue;
    }
    Value value;
    value.name = i == 0 ? node.name : node.name + ":" + std::to_string(i);
    value.shape = outputs[i].shape;
    value.dtype = outputs[i].dtype;
    value.narrow = outputs[i].narrow && outputs[i].dtype == DType::f32;
    value.role = building_backward ? Role::gradient : Role::activation;
    value.producer = id;
    node.outputs.push_back(add_value(std::move(value)));
  }
  nodes.push_back(std::move(node));
  return id;
}

ValueId Graph::apply(OpKind kind, const std::string& name, Attrs attrs, std::vector<ValueId> inputs) {
  return nodes[add(kind, name, std::move(attrs), std::move(inputs))].outputs[0];
}

ValueId Graph::find(const std::string& name) const {
  for (std::size_t i = 1; i < values.size(); ++i)
    if (values[i].name == name) return static_cast<ValueId>(i);
  return none;
}

std::vector<int> count_uses(const Graph& graph) {
  std::vector<int> uses(graph.values.size(), 0);
  for (const Node& node : graph.nodes)
    for (ValueId input : node.inputs)
      if (input != none) ++uses[input];
  return uses;
}

}  // namespace mpt
