// Chains of element-wise steps.
#include "backend/cuda/chain.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/registry.h"

namespace mpt::cuda {
namespace {

class ElementwiseKernel : public Kernel {
 public:
  ElementwiseKernel(const Graph& graph, const Node& node, const ElementwiseAttrs& attrs, const Target& target)
      : stream_(target.stream),
        elements_(attrs.shape.elements()),
        chain_(graph, attrs.program, attrs.shape, node.inputs, node.outputs) {}

  void run(const KernelArgs& args) const override {
    chain_.run(stream_, 0, elements_, nullptr, args.inputs, args.outputs, args.vars);
  }
  const char* implementation() const override { return "chain"; }

 private:
  Stream stream_;
  int64_t elements_;
  Chain chain_;
};

bool supports(const Graph& graph, const Node& node, const Target&) {
  const auto& attrs = std::get<ElementwiseAttrs>(node.attrs);
  return Chain::supports(graph, attrs.program, attrs.shape, node.inputs, node.outputs, false);
}

std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<ElementwiseKernel>(graph, node, std::get<ElementwiseAttrs>(node.attrs), target);
}

}  // namespace

void register_elementwise(Registry& registry) { registry.add(OpKind::elementwise, {"chain", supports, prepare}); }

}  // namespace mpt::cuda
