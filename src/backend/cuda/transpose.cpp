// Axes in another order.
#include "backend/cuda/kernels.h"
#include "backend/cuda/strided_copy.h"

namespace mpt::cuda {
namespace {

class TransposeKernel : public Kernel {
 public:
  TransposeKernel(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream), copy_(make(graph, node)) {}

  void run(const KernelArgs& args) const override { copy_.run(args.inputs[0], args.outputs[0], stream_); }
  const char* implementation() const override { return copy_.is_tiled() ? "transpose.tiles" : "transpose.rows"; }

 private:
  static StridedCopy make(const Graph& graph, const Node& node) {
    const Value &x = graph.value(node.inputs[0]), &y = graph.value(node.outputs[0]);
    const auto& axes = std::get<TransposeAttrs>(node.attrs).axes;
    const Strides x_strides = strides_of(x.shape);
    Strides from{};
    for (std::size_t i = 0; i < axes.size(); ++i) from[i] = x_strides[axes[i]];
    return {x.dtype, y.dtype, y.shape, from, strides_of(y.shape)};
  }

  Stream stream_;
  StridedCopy copy_;
};

bool supports(const Graph& graph, const Node& node, const Target&) {
  return can_copy(graph.value(node.inputs[0]).dtype, graph.value(node.outputs[0]).dtype);
}

std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<TransposeKernel>(graph, node, target);
}

}  // namespace

void register_transpose(Registry& registry) { registry.add(OpKind::transpose, {"transpose", supports, prepare}); }

}  // namespace mpt::cuda
