// Softmax and log-softmax over one axis.
#include "ops/op.h"

namespace mpt {
namespace {

std::vector<OutputInfo> infer(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  require_rank(graph, node, 0, 1);
  auto& attrs = std::get<SoftmaxAttrs>(node.attrs);
  const Shape& shape = graph.shape(node.inputs[0]);
  attrs.axis = normalize_axis(attrs.axis, shape.rank(), attrs.log ? "log_softmax" : "softmax");
  return {OutputInfo{shape}};
}

void gradient(GradientContext& context, const Node& node) {
  if (!context.wants(0)) return;
  context.add(
      0, context.graph().apply(OpKind::softmax_grad, "", node.attrs, {node.outputs[0], context.output_gradient(0)}));
}

Cost cost(const Graph& graph, const Node& node) {
  return {25 * elements(graph, node.outputs[0]), bytes_of(graph, node)};
}

bool in_place(const Graph&, const Node&, int, int) { return true; }  // a row is read before it is written

}  // namespace

const OpDef softmax_def{"softmax", OpClass::reduction, infer, gradient, cost, in_place};
const OpDef softmax_grad_def{"softmax_grad", OpClass::reduction, infer, nullptr, cost, in_place};

}  // namespace mpt
