// The seed of the backward pass: the loss's gradient by itself, scaled.
#include "backend/cuda/kernels.h"
#include "backend/cuda/registry.h"
#include "kernels/step_ends.h"

namespace mpt::cuda {
namespace {

class SeedKernel : public Kernel {
 public:
  SeedKernel(double weight, const Target& target) : weight_(weight), stream_(target.stream) {}

  void run(const KernelArgs& args) const override {
    loss_seed(weight_, args.vars, static_cast<float*>(args.outputs[0]), stream_);
  }
  const char* implementation() const override { return "seed"; }

 private:
  double weight_;
  Stream stream_;
};

bool supports(const Graph& graph, const Node& node, const Target&) {
  return graph.value(node.outputs[0]).dtype == DType::f32;
}

std::unique_ptr<Kernel> prepare(const Graph&, const Node& node, const Target& target) {
  return std::make_unique<SeedKernel>(std::get<SeedAttrs>(node.attrs).weight, target);
}

}  // namespace

void register_seed(Registry& registry) { registry.add(OpKind::loss_seed, {"seed", supports, prepare}); }

}  // namespace mpt::cuda
