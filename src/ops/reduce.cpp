// Sum, mean and maximum over axes.
#include <algorithm>

#include "ops/op.h"

namespace mpt {
namespace {

bool is_reduced(const ReduceAttrs& attrs, int axis) {
  return std::find(attrs.axes.begin(), attrs.axes.end(), axis) != attrs.axes.end();
}

Shape reduced_shape(const Shape& x, const ReduceAttrs& attrs, bool keep) {
  Shape shape;
  for (int i = 0; i < x.rank(); ++i) {
    if (!is_reduced(attrs, i))
      shape.push_back(x[i]);
    else if (keep)
      shape.push_back(1);
  }
  return shape;
}

std::vector<OutputInfo> infer(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  const auto& attrs = std::get<ReduceAttrs>(node.attrs);
  const Shape shape = reduced_shape(graph.shape(node.inputs[0]), attrs, attrs.keep);
  // Scalars cost nothing in FP32 and are often losses.
  const bool scalar = shape.is_known() && shape.elements() == 1;
  return {OutputInfo{shape, DType::f32, !scalar && graph.value(node.inputs[0]).narrow}};
}

void gradient(GradientContext& context, const Node& node) {
  if (!context.wants(0)) return;
  const auto attrs = std::get<ReduceAttrs>(node.attrs);
  Graph& graph = context.graph();
  const ValueId x = node.inputs[0];
  const Shape x_shape = graph.shape(x);
  const ValueId dy = context.output_gradient(0);
  if (attrs.reduction == Reduction::max) {
    context.add(0, graph.apply(OpKind::reduce_max_grad, "", attrs, {x, node.outputs[0], dy}));
    return;
  }
  double factor = 1;
  if (attrs.reduction == Reduction::mean)
    for (int axis : attrs.axes) factor /= static_cast<double>(std::max<int64_t>(x_shape[axis], 1));
  // dy repeated along the reduced axes: a chain whose shape is x's though no input has it.
  ElementwiseAttrs broadcast{single_step(Ewise::scale, static_cast<float>(factor), 0), x_shape};
  broadcast.broadcast_to_shape = true;
  context.add(
      0, graph.apply(OpKind::elementwise, "", broadcast, {reshape_to(graph, dy, reduced_shape(x_shape, attrs, true))}));
}

Cost cost(const Graph& graph, const Node& node) { return {elements(graph, node.inputs[0]), bytes_of(graph, node)}; }

std::vector<OutputInfo> infer_max_grad(const Graph& graph, Node& node) {
  return {OutputInfo{graph.shape(node.inputs[0])}};
}

}  // namespace

const OpDef reduce_def{"reduce", OpClass::reduction, infer, gradient, cost, nullptr};
const OpDef reduce_max_grad_def{"reduce_max_grad", OpClass::reduction, infer_max_grad, nullptr, cost, nullptr};

}  // namespace mpt
