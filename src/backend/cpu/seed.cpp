// The seed of the backward pass: the loss's gradient by itself, scaled.
#include "backend/cpu/kernels.h"
#include "backend/cpu/registry.h"

namespace mpt::cpu {
namespace {

class SeedKernel : public Kernel {
 public:
  explicit SeedKernel(double weight) : weight_(weight) {}

  void run(const KernelArgs& args) const override {
    const double seed =
        weight_ * static_cast<double>(args.vars->loss_scale) * static_cast<double>(args.vars->loss_weight);
    *static_cast<float*>(args.outputs[0]) = static_cast<float>(seed);
  }
  const char* implementation() const override { return "seed"; }

 private:
  double weight_;
};

bool supports(const Graph& graph, const Node& node, const Target&) {
  return graph.value(node.outputs[0]).dtype == DType::f32;
}

std::unique_ptr<Kernel> prepare(const Graph&, const Node& node, const Target&) {
  return std::make_unique<SeedKernel>(std::get<SeedAttrs>(node.attrs).weight);
}

}  // namespace

void register_seed(Registry& registry) { registry.add(OpKind::loss_seed, {"seed", supports, prepare}); }

}  // namespace mpt::cpu
