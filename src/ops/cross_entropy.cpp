// Softmax cross-entropy over class indices. Only the logarithm of each row's sum is stored: the gradient forms the softmax
// again from the logits, in place.
#include "ops/op.h"

namespace mpt {
namespace {

enum Input { logits_in, labels_in };

std::vector<OutputInfo> infer(const Graph& graph, Node& node) {
  require_float(graph, node, logits_in);
  require_dtype(graph, node, labels_in, DType::i32);
  require_rank(graph, node, logits_in, 1);
  const Shape &logits = graph.shape(node.inputs[logits_in]), &labels = graph.shape(node.inputs[labels_in]);
  Shape rows(logits.rank() - 1, logits.begin());
  if (!unify(rows, labels, &rows))
    shape_error(graph, node, "the labels must have the shape of the logits without the last axis");
  return {OutputInfo{Shape{}, DType::f32, false}, OutputInfo{rows, DType::f32, false},
          OutputInfo{Shape{}, DType::f32, false}};
}

void gradient(GradientContext& context, const Node& node) {
  if (!context.wants(logits_in)) return;
  context.add(logits_in, context.graph().apply(OpKind::cross_entropy_grad, "", node.attrs,
                                               {node.inputs[logits_in], node.inputs[labels_in], node.outputs[1],
                                                node.outputs[2], context.output_gradient(0)}));
}

Cost cost(const Graph& graph, const Node& node) {
  return {25 * elements(graph, node.inputs[logits_in]), bytes_of(graph, node)};
}

std::vector<OutputInfo> infer_grad(const Graph& graph, Node& node) {
  return {OutputInfo{graph.shape(node.inputs[logits_in])}};
}

bool in_place_grad(const Graph&, const Node&, int input, int output) { return input == logits_in && output == 0; }

}  // namespace

const OpDef cross_entropy_def{"cross_entropy", OpClass::reduction, infer, gradient, cost, nullptr};
const OpDef cross_entropy_grad_def{"cross_entropy_grad", OpClass::reduction, infer_grad, nullptr, cost, in_place_grad};

}  // namespace mpt
