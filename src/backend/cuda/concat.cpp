// Tensors side by side along one axis.
#include <algorithm>
#include <vector>

#include "backend/cuda/kernels.h"
#include "backend/cuda/strided_copy.h"

namespace mpt::cuda {
namespace {

class ConcatKernel : public Kernel {
 public:
  ConcatKernel(const Graph& graph, const Node& node, const Target& target) : stream_(target.stream) {
    const int axis = std::get<AxisAttrs>(node.attrs).axis;
    const Value& y = graph.value(node.outputs[0]);
    const Strides y_strides = strides_of(y.shape);
    int64_t begin = 0;
    for (ValueId id : node.inputs) {
      const Value& x = graph.value(id);
      parts_.push_back({StridedCopy(x.dtype, y.dtype, x.shape, strides_of(x.shape), y_strides),
                        begin * y_strides[axis] * static_cast<int64_t>(size_of(y.dtype))});
      begin += x.shape[axis];
    }
  }

  void run(const KernelArgs& args) const override {
    for (std::size_t i = 0; i < parts_.size(); ++i)
      parts_[i].copy.run(args.inputs[i], static_cast<char*>(args.outputs[0]) + parts_[i].skip_bytes, stream_);
  }
  const char* implementation() const override { return "concat"; }

 private:
  struct Part {
    StridedCopy copy;
    int64_t skip_bytes;  // of the output
  };
  Stream stream_;
  std::vector<Part> parts_;
};

bool supports(const Graph& graph, const Node& node, const Target&) {
  return std::all_of(node.inputs.begin(), node.inputs.end(),
                     [&](ValueId id) { return can_copy(graph.value(id).dtype, graph.value(node.outputs[0]).dtype); });
}

std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<ConcatKernel>(graph, node, target);
}

}  // namespace

void register_concat(Registry& registry) { registry.add(OpKind::concat, {"concat", supports, prepare}); }

}  // namespace mpt::cuda
