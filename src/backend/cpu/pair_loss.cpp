#include "backend/cpu/pair_loss.h"

#include "backend/cpu/isa/pair_loss_kernels.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/row_kernels.h"

namespace mpt::cpu {
namespace {

constexpr int64_t chunk = 16384;  // elements of a task; partial sums are per chunk, added in their order

PairLossTask task_of(const Graph& graph, const Node& node) {
  PairLossTask task{};
  switch (std::get<PairLossAttrs>(node.attrs).loss) {
    case PairLoss::mse:
      task.kind = PairLossKind::mse;
      break;
    case PairLoss::l1:
      task.kind = PairLossKind::l1;
      break;
    case PairLoss::bce:
      task.kind = PairLossKind::bce;
      break;
  }
  task.x_type = element_of(graph, node.inputs, 0);
  task.target_type = element_of(graph, node.inputs, 1);
  return task;
}

class PairLossSum final : public Kernel {
 public:
  PairLossSum(const Graph& graph, const Node& node, const Target& target)
      : parallel_(target.parallel),
        kernels_(MPT_CHOOSE_ISA(target.isa, pair_loss_kernels)()),
        task_(task_of(graph, node)),
        elements_(graph.shape(node.inputs[0]).elements()),
        mean_(std::get<PairLossAttrs>(node.attrs).mean) {}
  const char* implementation() const override { return "pair_loss"; }
  uint64_t scratch_bytes() const override { return static_cast<uint64_t>(chunks()) * sizeof(double); }

  void run(const KernelArgs& args) const override {
    auto* sums = static_cast<double*>(args.scratch);
    parallel_.for_range(elements_, chunk, [&](int64_t first, int64_t last) {
      sums[first / chunk] = kernels_.sum(task_, args.inputs[0], args.inputs[1], first, last - first);
    });
    double sum = 0;
    for (int64_t i = 0; i < chunks(); ++i) sum += sums[i];
    *static_cast<float*>(args.outputs[0]) = static_cast<float>(mean_ ? sum / static_cast<double>(elements_) : sum);
  }

 private:
  int64_t chunks() const { return (elements_ + chunk - 1) / chunk; }

  const Parallel& parallel_;
  PairLossKernels kernels_;
  PairLossTask task_;
  int64_t elements_;
  bool mean_;
};

class PairLossGrad final : public Kernel {
 public:
  PairLossGrad(const Graph& graph, const Node& node, const Target& target)
      : parallel_(target.parallel),
        kernels_(MPT_CHOOSE_ISA(target.isa, pair_loss_kernels)()),
        task_(task_of(graph, node)),
        elements_(graph.shape(node.inputs[0]).elements()),
        mean_(std::get<PairLossAttrs>(node.attrs).mean) {
    task_.dx_type = element_of(graph, node.outputs, 0);
    task_.dtarget_type = element_of(graph, node.outputs, 1);
    for (std::size_t i = 0; i < 2; ++i) wanted_[i] = i < node.outputs.size() && node.outputs[i] != none;
  }
  const char* implementation() const override { return "pair_loss_grad"; }

  void run(const KernelArgs& args) const override {
    const double dloss = *static_cast<const float*>(args.inputs[2]);
    const auto factor = static_cast<float>(mean_ ? dloss / static_cast<double>(elements_) : dloss);
    void* dx = wanted_[0] ? args.outputs[0] : nullptr;
    void* dtarget = wanted_[1] ? args.outputs[1] : nullptr;
    parallel_.for_range(elements_, chunk, [&](int64_t first, int64_t last) {
      kernels_.grad(task_, args.inputs[0], args.inputs[1], factor, first, last - first, dx, dtarget);
    });
  }

 private:
  const Parallel& parallel_;
  PairLossKernels kernels_;
  PairLossTask task_;
  int64_t elements_;
  bool mean_;
  bool wanted_[2] = {};
};

bool supports(const Graph& graph, const Node& node, const Target&) { return has_element_types(graph, node); }

}  // namespace

std::unique_ptr<Kernel> make_pair_loss(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<PairLossSum>(graph, node, target);
}

std::unique_ptr<Kernel> make_pair_loss_grad(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<PairLossGrad>(graph, node, target);
}

void register_pair_loss(Registry& registry) {
  registry.add(OpKind::pair_loss, {"pair_loss", supports, make_pair_loss});
  registry.add(OpKind::pair_loss_grad, {"pair_loss_grad", supports, make_pair_loss_grad});
}

}  // namespace mpt::cpu
