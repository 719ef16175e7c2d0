// Picks by index along one axis; along axis 0 of a table it is an embedding.
#include "ops/op.h"

namespace mpt {
namespace {

std::vector<OutputInfo> infer(const Graph& graph, Node& node) {
  auto& attrs = std::get<GatherAttrs>(node.attrs);
  const Value& x = graph.value(node.inputs[0]);
  require_dtype(graph, node, 1, DType::i32);
  require_rank(graph, node, 0, 1);
  attrs.axis = normalize_axis(attrs.axis, x.shape.rank(), "gather");
  attrs.x_shape = x.shape;
  Shape shape(attrs.axis, x.shape.begin());
  for (int64_t size : graph.shape(node.inputs[1])) shape.push_back(size);
  for (int i = attrs.axis + 1; i < x.shape.rank(); ++i) shape.push_back(x.shape[i]);
  return {OutputInfo{shape, x.dtype, x.narrow}};
}

void gradient(GradientContext& context, const Node& node) {
  if (!context.wants(0)) return;
  context.add(0,
              context.graph().apply(OpKind::gather_grad, "", node.attrs, {context.output_gradient(0), node.inputs[1]}));
}

Cost cost(const Graph& graph, const Node& node) {
  return {0, 2 * elements(graph, node.outputs[0]) * static_cast<double>(size_of(graph.value(node.outputs[0]).dtype))};
}

std::vector<OutputInfo> infer_grad(const Graph&, Node& node) {
  return {OutputInfo{std::get<GatherAttrs>(node.attrs).x_shape}};
}

Cost cost_grad(const Graph& graph, const Node& node) {
  return {elements(graph, node.inputs[0]), bytes_of(graph, node)};
}

}  // namespace

const OpDef gather_def{"gather", OpClass::matmul, infer, gradient, cost, nullptr};
const OpDef gather_grad_def{"gather_grad", OpClass::matmul, infer_grad, nullptr, cost_grad, nullptr};

}  // namespace mpt
