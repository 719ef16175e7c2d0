// Layer normalisation and RMS normalisation over the last axis, with an optional fused residual sum.
#include "ops/op.h"

namespace mpt {
namespace {

enum Input { x_in, weight_in, bias_in, residual_in };
enum GradInput { g_x, g_weight, g_mean, g_rstd, g_dy, g_add };

std::vector<OutputInfo> infer(const Graph& graph, Node& node) {
  require_float(graph, node, x_in);
  require_rank(graph, node, x_in, 1);
  const auto& attrs = std::get<NormAttrs>(node.attrs);
  node.inputs.resize(4, none);
  const Shape& shape = graph.shape(node.inputs[x_in]);
  for (int i : {weight_in, bias_in}) {
    int64_t size;
    if (node.inputs[i] != none &&
        (graph.shape(node.inputs[i]).rank() != 1 || !unify(graph.shape(node.inputs[i])[0], shape[-1], &size)))
      shape_error(graph, node, "the weight and bias must have the size of the last axis");
  }
  Shape common;
  if (node.inputs[residual_in] != none && !unify(shape, graph.shape(node.inputs[residual_in]), &common))
    shape_error(graph, node, "the residual must have the shape of x");
  const Shape rows(shape.rank() - 1, shape.begin());
  return {OutputInfo{shape}, OutputInfo{rows, DType::f32, false, !attrs.rms}, OutputInfo{rows, DType::f32, false},
          OutputInfo{shape, DType::f32, true, node.inputs[residual_in] != none}};
}

void gradient(GradientContext& context, const Node& node) {
  auto attrs = std::get<NormAttrs>(node.attrs);
  MPT_INVARIANT(node.inputs[residual_in] == none);  // fused after differentiation
  attrs.wanted = 0;
  for (int i = 0; i < 3; ++i)
    if (node.inputs[i] != none && context.wants(i)) attrs.wanted |= 1u << i;
  if (attrs.wanted == 0) return;
  Graph& graph = context.graph();
  const NodeId id = graph.add(
      OpKind::norm_grad, "", attrs,
      {node.inputs[x_in], node.inputs[weight_in], node.outputs[1], node.outputs[2], context.output_gradient(0), none});
  for (int i = 0; i < 3; ++i)
    if (attrs.wanted >> i & 1) context.add(i, graph.node(id).outputs[i]);
}

Cost cost(const Graph& graph, const Node& node) {
  return {8 * elements(graph, node.outputs[0]), bytes_of(graph, node)};
}

bool in_place(const Graph&, const Node&, int input, int output) {
  return (input == x_in || input == residual_in) && (output == 0 || output == 3);
}

std::vector<OutputInfo> infer_grad(const Graph& graph, Node& node) {
  const auto& attrs = std::get<NormAttrs>(node.attrs);
  const Shape& shape = graph.shape(node.inputs[g_x]);
  const Shape features{shape[-1]};
  return {OutputInfo{shape, DType::f32, true, (attrs.wanted & 1u) != 0},
          OutputInfo{features, DType::f32, false, (attrs.wanted & 2u) != 0},
          OutputInfo{features, DType::f32, false, (attrs.wanted & 4u) != 0}};
}

Cost cost_grad(const Graph& graph, const Node& node) {
  return {14 * elements(graph, node.inputs[g_x]), bytes_of(graph, node)};
}

bool in_place_grad(const Graph&, const Node&, int input, int output) {
  return (input == g_dy || input == g_add || input == g_x) && output == 0;
}

}  // namespace

const OpDef norm_def{"norm", OpClass::reduction, infer, gradient, cost, in_place};
const OpDef norm_grad_def{"norm_grad", OpClass::reduction, infer_grad, nullptr, cost_grad, in_place_grad};

}  // namespace mpt
