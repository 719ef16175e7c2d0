// A range along one axis.
#include "backend/cuda/kernels.h"
#include "backend/cuda/strided_copy.h"

namespace mpt::cuda {
namespace {

class SliceKernel : public Kernel {
 public:
  SliceKernel(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream), copy_(make(graph, node)) {
    const auto& attrs = std::get<SliceAttrs>(node.attrs);
    const Value& x = graph.value(node.inputs[0]);
    skip_bytes_ = attrs.begin * strides_of(x.shape)[attrs.axis] * static_cast<int64_t>(size_of(x.dtype));
  }

  void run(const KernelArgs& args) const override {
    copy_.run(static_cast<const char*>(args.inputs[0]) + skip_bytes_, args.outputs[0], stream_);
  }
  const char* implementation() const override { return "slice"; }

 private:
  static StridedCopy make(const Graph& graph, const Node& node) {
    const Value &x = graph.value(node.inputs[0]), &y = graph.value(node.outputs[0]);
    return {x.dtype, y.dtype, y.shape, strides_of(x.shape), strides_of(y.shape)};
  }

  Stream stream_;
  StridedCopy copy_;
  int64_t skip_bytes_ = 0;
};

bool supports(const Graph& graph, const Node& node, const Target&) {
  return can_copy(graph.value(node.inputs[0]).dtype, graph.value(node.outputs[0]).dtype);
}

std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<SliceKernel>(graph, node, target);
}

}  // namespace

void register_slice(Registry& registry) { registry.add(OpKind::slice, {"slice", supports, prepare}); }

}  // namespace mpt::cuda
