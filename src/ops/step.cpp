// What a training step adds to a graph: the seed of the backward pass and the sum of gradients over micro-steps.
#include "ops/op.h"

namespace mpt {
namespace {

// FP32, so that a scale above 65504 is no overflow in itself.
std::vector<OutputInfo> infer_seed(const Graph&, Node&) { return {OutputInfo{Shape{}, DType::f32, false}}; }

std::vector<OutputInfo> infer_accumulate(const Graph& graph, Node& node) {
  return {OutputInfo{graph.shape(node.inputs[0]), DType::f32, false}};
}

Cost no_cost(const Graph&, const Node&) { return {}; }
Cost cost(const Graph& graph, const Node& node) { return {elements(graph, node.inputs[0]), bytes_of(graph, node)}; }

}  // namespace

const OpDef loss_seed_def{"loss_seed", OpClass::elementwise, infer_seed, nullptr, no_cost, nullptr};
const OpDef accumulate_def{"accumulate", OpClass::elementwise, infer_accumulate, nullptr, cost, nullptr};

}  // namespace mpt
