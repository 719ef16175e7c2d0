// The same elements under another shape: a copy, where the plan could not let both share their memory.
#include "backend/cpu/kernels.h"
#include "backend/cpu/registry.h"
#include "backend/cpu/strided_copy.h"

namespace mpt::cpu {
namespace {

class ReshapeKernel : public Kernel {
 public:
  ReshapeKernel(const Graph& graph, const Node& node, const Target& target)
      : parallel_(target.parallel), copy_(make(graph, node, target.isa)) {}

  void run(const KernelArgs& args) const override {
    if (args.inputs[0] != args.outputs[0]) copy_.run(parallel_, args.inputs[0], args.outputs[0]);
  }
  const char* implementation() const override { return "copy"; }

 private:
  static StridedCopy make(const Graph& graph, const Node& node, Isa isa) {
    const Value &x = graph.value(node.inputs[0]), &y = graph.value(node.outputs[0]);
    return {x.dtype, y.dtype, y.shape, strides_of(y.shape), strides_of(y.shape), isa};
  }

  const Parallel& parallel_;
  StridedCopy copy_;
};

bool supports(const Graph& graph, const Node& node, const Target&) {
  return can_copy(graph.value(node.inputs[0]).dtype, graph.value(node.outputs[0]).dtype);
}

std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<ReshapeKernel>(graph, node, target);
}

}  // namespace

void register_reshape(Registry& registry) { registry.add(OpKind::reshape, {"copy", supports, prepare}); }

}  // namespace mpt::cpu
