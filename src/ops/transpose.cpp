// Axes in another order.
#include <algorithm>

#include "ops/op.h"

namespace mpt {
namespace {

std::vector<OutputInfo> infer(const Graph& graph, Node& node) {
  const auto& axes = std::get<TransposeAttrs>(node.attrs).axes;
  const Value& x = graph.value(node.inputs[0]);
  std::vector<int> sorted = axes;
  std::sort(sorted.begin(), sorted.end());
  bool permutation = static_cast<int>(axes.size()) == x.shape.rank();
  for (std::size_t i = 0; permutation && i < sorted.size(); ++i) permutation = sorted[i] == static_cast<int>(i);
  if (!permutation) shape_error(graph, node, "the axes are no permutation of 0 to %d", x.shape.rank() - 1);
  Shape shape;
  for (int axis : axes) shape.push_back(x.shape[axis]);
  return {OutputInfo{shape, x.dtype, x.narrow}};
}

void gradient(GradientContext& context, const Node& node) {
  if (!context.wants(0)) return;
  const auto& axes = std::get<TransposeAttrs>(node.attrs).axes;
  TransposeAttrs inverse{std::vector<int>(axes.size())};
  for (std::size_t i = 0; i < axes.size(); ++i) inverse.axes[axes[i]] = static_cast<int>(i);
  context.add(0, context.graph().apply(OpKind::transpose, "", inverse, {context.output_gradient(0)}));
}

Cost cost(const Graph& graph, const Node& node) { return {0, bytes_of(graph, node)}; }

}  // namespace

const OpDef transpose_def{"transpose", OpClass::shape, infer, gradient, cost, nullptr};

}  // namespace mpt
