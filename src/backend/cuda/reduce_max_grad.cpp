// The gradient of a maximum.
#include "backend/cuda/kernels.h"
#include "backend/cuda/reduce.h"
#include "backend/cuda/row_kernels.h"

namespace mpt::cuda {
namespace {

class ReduceMaxGrad final : public Kernel {
 public:
  ReduceMaxGrad(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream),
        shape_(reduce_shape(graph.shape(node.inputs[0]), std::get<ReduceAttrs>(node.attrs).axes)) {
    args_.x_type = element_of(graph, node.inputs, 0);
    args_.dy_type = element_of(graph, node.inputs, 2);
    args_.dx_type = element_of(graph, node.outputs, 0);
  }
  const char* implementation() const override { return "reduce_max_grad"; }
  uint64_t scratch_bytes() const override { return reduce_max_grad_scratch(shape_); }

  void run(const KernelArgs& args) const override {
    ReduceMaxGradArgs a = args_;
    a.x = args.inputs[0];
    a.dy = args.inputs[2];
    a.dx = args.outputs[0];
    a.scratch = args.scratch;
    reduce_max_grad(shape_, a, stream_);
  }

 private:
  Stream stream_;
  ReduceShape shape_;
  ReduceMaxGradArgs args_{};
};

// Of nothing there is nothing to do.
class Nothing final : public Kernel {
 public:
  const char* implementation() const override { return "reduce_max_grad.nothing"; }
  void run(const KernelArgs&) const override {}
};

bool supports(const Graph& graph, const Node& node, const Target&) { return has_element_types(graph, node); }

std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node, const Target& target) {
  if (graph.shape(node.inputs[0]).elements() == 0) return std::make_unique<Nothing>();
  return std::make_unique<ReduceMaxGrad>(graph, node, target);
}

}  // namespace

void register_reduce_max_grad(Registry& registry) {
  registry.add(OpKind::reduce_max_grad, {"reduce_max_grad", supports, prepare});
}

}  // namespace mpt::cuda
