#include "backend/ref/kernel.h"

namespace mpt::ref {

namespace {

std::vector<Tensor> describe(const Graph& graph, const std::vector<ValueId>& ids) {
  std::vector<Tensor> tensors;
  for (ValueId id : ids) {
    Tensor tensor;
    if (id != none) {
      const Value& value = graph.value(id);
      tensor.dtype = value.dtype;
      tensor.shape = value.shape;
      tensor.elements = value.shape.elements();
    }
    tensors.push_back(tensor);
  }
  return tensors;
}

class FunctionKernel : public Kernel {
 public:
  FunctionKernel(const Graph& graph, const Node& node, Function function, uint64_t scratch)
      : inputs_(describe(graph, node.inputs)),
        outputs_(describe(graph, node.outputs)),
        function_(std::move(function)),
        scratch_(scratch) {}

  void run(const KernelArgs& args) const override { function_(Launch(inputs_, outputs_, args)); }
  uint64_t scratch_bytes() const override { return scratch_; }
  const char* implementation() const override { return "ref"; }

 private:
  std::vector<Tensor> inputs_, outputs_;
  Function function_;
  uint64_t scratch_;
};

}  // namespace

Tensor Launch::input(int i) const {
  if (i >= static_cast<int>(inputs_.size())) return {};
  Tensor tensor = inputs_[i];
  tensor.data = const_cast<void*>(args_.inputs[i]);
  return tensor;
}

Tensor Launch::output(int i) const {
  if (i >= static_cast<int>(outputs_.size())) return {};
  Tensor tensor = outputs_[i];
  tensor.data = args_.outputs[i];
  return tensor;
}

std::unique_ptr<Kernel> make_kernel(const Graph& graph, const Node& node, Function function, uint64_t scratch) {
  return std::make_unique<FunctionKernel>(graph, node, std::move(function), scratch);
}

AxisView::AxisView(const Shape& shape, int axis)
    : AxisView(shape, axis < 0 ? axis + shape.rank() : axis, (axis < 0 ? axis + shape.rank() : axis) + 1) {}

AxisView::AxisView(const Shape& shape, int first, int last) {
  for (int i = 0; i < shape.rank(); ++i) (i < first ? outer : i < last ? size : inner) *= shape[i];
}

}  // namespace mpt::ref
