// Chains of element-wise steps.
#include "backend/cpu/chain.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/registry.h"

namespace mpt::cpu {
namespace {

class ElementwiseKernel : public Kernel {
 public:
  ElementwiseKernel(const Graph& graph, const Node& node, const ElementwiseAttrs& attrs, const Target& target)
      : parallel_(target.parallel),
        elements_(attrs.shape.elements()),
        chain_(graph, attrs.program, attrs.shape, node.inputs, node.outputs, false, target.isa) {}

  void run(const KernelArgs& args) const override {
    constexpr int64_t grain = 16384;
    parallel_.for_range(elements_, grain, [&](int64_t begin, int64_t end) {
      chain_.run(begin, end - begin, nullptr, args.inputs, args.outputs, args.vars);
    });
  }
  const char* implementation() const override { return "chain"; }

 private:
  const Parallel& parallel_;
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

}  // namespace mpt::cpu
