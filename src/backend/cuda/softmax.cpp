// Softmax and log-softmax along one axis, and their gradients.
#include "kernels/softmax.h"

#include "backend/cuda/kernels.h"
#include "backend/cuda/row_kernels.h"

namespace mpt::cuda {
namespace {

SoftmaxArgs softmax_args(const Graph& graph, const Node& node) {
  const auto& attrs = std::get<SoftmaxAttrs>(node.attrs);
  const Shape& shape = graph.shape(node.inputs[0]);
  const int axis = attrs.axis < 0 ? attrs.axis + shape.rank() : attrs.axis;
  SoftmaxArgs a{};
  a.n = static_cast<int32_t>(shape[axis]);
  a.outer = a.inner = 1;
  a.log = attrs.log;
  for (int i = 0; i < axis; ++i) a.outer *= shape[i];
  for (int i = axis + 1; i < shape.rank(); ++i) a.inner *= shape[i];
  a.x_type = element_of(graph, node.inputs, 0);
  a.dy_type = element_of(graph, node.inputs, 1);
  a.out_type = element_of(graph, node.outputs, 0);
  return a;
}

class Softmax final : public Kernel {
 public:
  Softmax(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream), args_(softmax_args(graph, node)) {}
  const char* implementation() const override { return "softmax"; }
  void run(const KernelArgs& args) const override {
    SoftmaxArgs a = args_;
    a.x = args.inputs[0];
    a.out = args.outputs[0];
    softmax(a, stream_);
  }

 private:
  Stream stream_;
  SoftmaxArgs args_;
};

class SoftmaxGrad final : public Kernel {
 public:
  SoftmaxGrad(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream), args_(softmax_args(graph, node)) {}
  const char* implementation() const override { return "softmax_grad"; }
  void run(const KernelArgs& args) const override {
    SoftmaxArgs a = args_;
    a.x = args.inputs[0];
    a.dy = args.inputs[1];
    a.out = args.outputs[0];
    softmax_grad(a, stream_);
  }

 private:
  Stream stream_;
  SoftmaxArgs args_;
};

bool supports(const Graph& graph, const Node& node, const Target&) {
  const Shape& shape = graph.shape(node.inputs[0]);
  return has_element_types(graph, node) && shape[std::get<SoftmaxAttrs>(node.attrs).axis] <= longest_row;
}

}  // namespace

void register_softmax(Registry& registry) {
  registry.add(OpKind::softmax, {"softmax", supports, make_kernel<Softmax>});
  registry.add(OpKind::softmax_grad, {"softmax_grad", supports, make_kernel<SoftmaxGrad>});
}

}  // namespace mpt::cuda
