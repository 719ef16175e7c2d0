// Losses of a tensor and a target of the same shape: squared error, absolute error, binary cross-entropy on logits.
#include "ops/op.h"

namespace mpt {
namespace {

std::vector<OutputInfo> infer(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  require_float(graph, node, 1);
  Shape common;
  if (!unify(graph.shape(node.inputs[0]), graph.shape(node.inputs[1]), &common))
    shape_error(graph, node, "the target must have the shape of the first tensor");
  return {OutputInfo{Shape{}, DType::f32, false}};
}

void gradient(GradientContext& context, const Node& node) {
  auto attrs = std::get<PairLossAttrs>(node.attrs);
  attrs.wanted = (context.wants(0) ? 1u : 0u) | (context.wants(1) ? 2u : 0u);
  if (attrs.wanted == 0) return;
  Graph& graph = context.graph();
  const NodeId id =
      graph.add(OpKind::pair_loss_grad, "", attrs, {node.inputs[0], node.inputs[1], context.output_gradient(0)});
  for (int i = 0; i < 2; ++i)
    if (attrs.wanted >> i & 1) context.add(i, graph.node(id).outputs[i]);
}

Cost cost(const Graph& graph, const Node& node) { return {4 * elements(graph, node.inputs[0]), bytes_of(graph, node)}; }

std::vector<OutputInfo> infer_grad(const Graph& graph, Node& node) {
  const auto& attrs = std::get<PairLossAttrs>(node.attrs);
  const Shape& shape = graph.shape(node.inputs[0]);
  return {OutputInfo{shape, DType::f32, true, (attrs.wanted & 1u) != 0},
          OutputInfo{shape, DType::f32, true, (attrs.wanted & 2u) != 0}};
}

bool in_place_grad(const Graph&, const Node& node, int input, int output) {
  // With both outputs an input would be needed again after the first was written.
  return input < 2 && std::get<PairLossAttrs>(node.attrs).wanted == (1u << output);
}

}  // namespace

const OpDef pair_loss_def{"pair_loss", OpClass::reduction, infer, gradient, cost, nullptr};
const OpDef pair_loss_grad_def{"pair_loss_grad", OpClass::reduction, infer_grad, nullptr, cost, in_place_grad};

}  // namespace mpt
