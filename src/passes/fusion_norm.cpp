// Sums around normalisations: the residual sum before one, and the sum of gradients after its backward pass.
#include "passes/fusion_program.h"
#include "passes/fusion_state.h"
#include "passes/fusion_steps.h"

namespace mpt {
namespace {

// x + y of two tensors of the node's shape, and nothing else.
bool is_sum_of_two(const Graph& graph, const Node& node) {
  if (node.kind != OpKind::elementwise || node.inputs.size() != 2) return false;
  if (!is_plain_sum(std::get<ElementwiseAttrs>(node.attrs).program)) return false;
  const Shape& shape = graph.shape(node.outputs[0]);
  return graph.shape(node.inputs[0]) == shape && graph.shape(node.inputs[1]) == shape;
}

void absorb_residual(FusionState& state, NodeId n, Caution caution) {
  Graph& graph = state.graph();
  const Node& norm = graph.node(n);
  if (norm.kind != OpKind::norm || norm.inputs[3] != none) return;
  const ValueId sum = norm.inputs[0];
  const NodeId a = graph.value(sum).producer;
  if (a == none || !is_sum_of_two(graph, graph.node(a))) return;
  const Node& add = graph.node(a);
  if (add.backward != norm.backward || add.recomputed != norm.recomputed) return;
  // The sum stays; only what the norm writes is there earlier.
  if (!state.are_neighbours(a, n) || caution == Caution::strict) return;
  for (ValueId in : norm.inputs) {
    if (in != none && in != sum && !state.is_ready_at(in, a)) return;
  }
  Node fused = norm;
  fused.name = add.name + "+" + norm.name;
  fused.keep_fp32 = add.keep_fp32 || norm.keep_fp32;
  fused.inputs[0] = add.inputs[0];
  fused.inputs[3] = add.inputs[1];
  fused.outputs[3] = sum;
  state.replace(a, std::move(fused), n);
}

void absorb_gradient_sum(FusionState& state, NodeId n) {
  Graph& graph = state.graph();
  if (!is_sum_of_two(graph, graph.node(n))) return;
  const Node& add = graph.node(n);
  for (int i = 0; i < 2; ++i) {
    const ValueId dx = add.inputs[i], other = add.inputs[1 - i];
    const NodeId g = graph.value(dx).producer;
    if (g == none || graph.node(g).kind != OpKind::norm_grad) continue;
    const Node& grad = graph.node(g);
    if (grad.outputs[0] != dx || grad.inputs[5] != none || state.is_wanted_beside(dx, n)) continue;
    if (other == dx || !state.is_ready_at(other, g)) continue;
    Node fused = grad;
    fused.name = grad.name + "+" + add.name;
    fused.inputs[5] = other;
    fused.outputs[0] = add.outputs[0];
    state.replace(g, std::move(fused), n);
    return;
  }
}

}  // namespace

void absorb_residuals(Graph& graph, const std::vector<ValueId>& kept, Caution caution) {
  FusionState state(graph, kept);
  for (NodeId n = 1; n < state.size(); ++n) {
    if (!state.is_dead(n)) absorb_residual(state, n, caution);
  }
  state.finish();
}

void absorb_gradient_sums(Graph& graph, const std::vector<ValueId>& kept) {
  FusionState state(graph, kept);
  for (NodeId n = 1; n < state.size(); ++n) {
    if (!state.is_dead(n)) absorb_gradient_sum(state, n);
  }
  state.finish();
}

}  // namespace mpt
