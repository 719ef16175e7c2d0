// The same elements under another shape: a copy, where the plan could not let both share their memory.
#include "backend/cuda/chain.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/registry.h"

namespace mpt::cuda {
namespace {

class CopyKernel : public Kernel {
 public:
  CopyKernel(const Value& x, const Target& target)
      : target_(target), bytes_(static_cast<uint64_t>(x.shape.elements()) * size_of(x.dtype)) {}

  void run(const KernelArgs& args) const override {
    if (args.inputs[0] != args.outputs[0] && bytes_ != 0)
      target_.device.copy(target_.stream, args.outputs[0], args.inputs[0], bytes_);
  }
  const char* implementation() const override { return "copy"; }

 private:
  const Target& target_;
  uint64_t bytes_;
};

bool copies(const Graph& graph, const Node& node, const Target&) {
  return graph.value(node.inputs[0]).dtype == graph.value(node.outputs[0]).dtype;
}

std::unique_ptr<Kernel> prepare_copy(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<CopyKernel>(graph.value(node.inputs[0]), target);
}

// Into another type of numbers.
class ConvertKernel : public Kernel {
 public:
  ConvertKernel(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream), elements_(graph.shape(node.outputs[0]).elements()), chain_(make(graph, node)) {}

  void run(const KernelArgs& args) const override {
    chain_.run(stream_, 0, elements_, args.inputs[0], nullptr, args.outputs, args.vars);
  }
  const char* implementation() const override { return "convert"; }

 private:
  // The tensors have different shapes, so the input is read by position, as sums are.
  static Chain make(const Graph& graph, const Node& node) {
    return {graph, {}, graph.shape(node.outputs[0]), {}, node.outputs, true, element_of(graph, node.inputs, 0)};
  }

  Stream stream_;
  int64_t elements_;
  Chain chain_;
};

bool converts(const Graph& graph, const Node& node, const Target&) {
  return is_element(graph.value(node.inputs[0]).dtype) && is_element(graph.value(node.outputs[0]).dtype);
}

std::unique_ptr<Kernel> prepare_convert(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<ConvertKernel>(graph, node, target);
}

}  // namespace

void register_reshape(Registry& registry) {
  registry.add(OpKind::reshape, {"copy", copies, prepare_copy});
  registry.add(OpKind::reshape, {"convert", converts, prepare_convert});
}

}  // namespace mpt::cuda
