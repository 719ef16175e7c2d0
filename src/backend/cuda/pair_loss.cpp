// Losses of a tensor and a target of the same shape, and their gradients.
#include "kernels/pair_loss.h"

#include "backend/cuda/kernels.h"
#include "backend/cuda/row_kernels.h"

namespace mpt::cuda {
namespace {

PairLossArgs pair_loss_args(const Graph& graph, const Node& node) {
  const auto& attrs = std::get<PairLossAttrs>(node.attrs);
  PairLossArgs a{};
  switch (attrs.loss) {
    case PairLoss::mse:
      a.kind = PairLossKind::mse;
      break;
    case PairLoss::l1:
      a.kind = PairLossKind::l1;
      break;
    case PairLoss::bce:
      a.kind = PairLossKind::bce;
      break;
  }
  a.elements = graph.shape(node.inputs[0]).elements();
  a.mean = attrs.mean;
  a.x_type = element_of(graph, node.inputs, 0);
  a.target_type = element_of(graph, node.inputs, 1);
  return a;
}

class PairLossSum final : public Kernel {
 public:
  PairLossSum(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream), args_(pair_loss_args(graph, node)) {}
  const char* implementation() const override { return "pair_loss"; }
  uint64_t scratch_bytes() const override {
    return static_cast<uint64_t>(pair_loss_parts(args_.elements)) * sizeof(double);
  }

  void run(const KernelArgs& args) const override {
    PairLossArgs a = args_;
    a.x = args.inputs[0];
    a.target = args.inputs[1];
    a.loss = static_cast<float*>(args.outputs[0]);
    a.parts = static_cast<double*>(args.scratch);
    pair_loss(a, stream_);
  }

 private:
  Stream stream_;
  PairLossArgs args_;
};

class PairLossGrad final : public Kernel {
 public:
  PairLossGrad(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream), args_(pair_loss_args(graph, node)) {
    args_.dx_type = element_of(graph, node.outputs, 0);
    args_.dtarget_type = element_of(graph, node.outputs, 1);
    for (std::size_t i = 0; i < 2; ++i) wanted_[i] = has(node.outputs, i);
  }
  const char* implementation() const override { return "pair_loss_grad"; }

  void run(const KernelArgs& args) const override {
    PairLossArgs a = args_;
    a.x = args.inputs[0];
    a.target = args.inputs[1];
    a.dloss = static_cast<const float*>(args.inputs[2]);
    a.dx = wanted_[0] ? args.outputs[0] : nullptr;
    a.dtarget = wanted_[1] ? args.outputs[1] : nullptr;
    pair_loss_grad(a, stream_);
  }

 private:
  Stream stream_;
  PairLossArgs args_;
  bool wanted_[2] = {};
};

bool supports(const Graph& graph, const Node& node, const Target&) { return has_element_types(graph, node); }

}  // namespace

void register_pair_loss(Registry& registry) {
  registry.add(OpKind::pair_loss, {"pair_loss", supports, make_kernel<PairLossSum>});
  registry.add(OpKind::pair_loss_grad, {"pair_loss_grad", supports, make_kernel<PairLossGrad>});
}

}  // namespace mpt::cuda
