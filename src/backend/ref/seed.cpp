// The ends of the backward pass: its seed and the gradients' accumulators.
#include "backend/ref/kernels.h"

namespace mpt::ref {

std::unique_ptr<Kernel> prepare_loss_seed(const Graph& graph, const Node& node) {
  const double weight = std::get<SeedAttrs>(node.attrs).weight;
  const auto run = [weight](const Launch& launch) {
    const StepVars& vars = launch.vars();
    launch.output(0).set(0, weight * vars.loss_scale * vars.loss_weight);
  };
  return make_kernel(graph, node, run);
}

// The first micro-step of an update writes, the others add.
std::unique_ptr<Kernel> prepare_accumulate(const Graph& graph, const Node& node) {
  const auto run = [](const Launch& launch) {
    const Tensor x = launch.input(0), sum = launch.output(0);
    const bool first = launch.vars().micro_step == 0;
    for (int64_t i = 0; i < x.elements; ++i) sum.set(i, first ? x[i] : sum[i] + x[i]);
  };
  return make_kernel(graph, node, run);
}

}  // namespace mpt::ref
