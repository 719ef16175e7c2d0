// Ops with the user's own functions, planned and counted like any other.
#include "ops/op.h"

namespace mpt {
namespace {

std::vector<OutputInfo> infer(const Graph&, Node& node) {
  const auto& attrs = std::get<CustomAttrs>(node.attrs);
  std::vector<OutputInfo> outputs;
  for (const Shape& shape : attrs.out_shapes) outputs.push_back(OutputInfo{shape, DType::f32, !attrs.fp32});
  return outputs;
}

void gradient(GradientContext& context, const Node& node) {
  auto attrs = std::get<CustomAttrs>(node.attrs);
  if (!attrs.backward) return;
  attrs.wanted.assign(attrs.n_inputs, false);
  bool any = false;
  for (int i = 0; i < attrs.n_inputs; ++i) any |= attrs.wanted[i] = context.wants(i);
  if (!any) return;
  std::vector<ValueId> inputs = node.inputs;
  inputs.insert(inputs.end(), node.outputs.begin(), node.outputs.end());
  for (int i = 0; i < attrs.n_outputs; ++i) inputs.push_back(context.output_gradient(i));
  Graph& graph = context.graph();
  const NodeId id = graph.add(OpKind::custom_grad, "", attrs, inputs);
  for (int i = 0; i < attrs.n_inputs; ++i)
    if (attrs.wanted[i]) context.add(i, graph.node(id).outputs[i]);
}

Cost cost(const Graph& graph, const Node& node) { return {0, bytes_of(graph, node)}; }

std::vector<OutputInfo> infer_grad(const Graph& graph, Node& node) {
  const auto& attrs = std::get<CustomAttrs>(node.attrs);
  std::vector<OutputInfo> outputs;
  for (int i = 0; i < attrs.n_inputs; ++i)
    outputs.push_back(OutputInfo{graph.shape(node.inputs[i]), DType::f32, true, attrs.wanted[i]});
  return outputs;
}

}  // namespace

const OpDef custom_def{"custom", OpClass::elementwise, infer, gradient, cost, nullptr};
const OpDef custom_grad_def{"custom_grad", OpClass::elementwise, infer_grad, nullptr, cost, nullptr};

}  // namespace mpt
