// Softmax cross-entropy over class indices, and its gradient.
#include "kernels/cross_entropy.h"

#include "backend/cuda/kernels.h"
#include "backend/cuda/row_kernels.h"

namespace mpt::cuda {
namespace {

CrossEntropyArgs cross_entropy_args(const Graph& graph, const Node& node) {
  const auto& attrs = std::get<CrossEntropyAttrs>(node.attrs);
  const Shape& shape = graph.shape(node.inputs[0]);
  CrossEntropyArgs a{};
  a.classes = static_cast<int32_t>(shape[-1]);
  a.rows = shape.elements() / shape[-1];
  a.ignore_index = attrs.ignore_index;
  a.smoothing = static_cast<float>(attrs.label_smoothing);
  a.mean = attrs.mean;
  a.logits_type = element_of(graph, node.inputs, 0);
  return a;
}

class CrossEntropy final : public Kernel {
 public:
  CrossEntropy(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream), args_(cross_entropy_args(graph, node)) {}
  const char* implementation() const override { return "cross_entropy"; }
  uint64_t scratch_bytes() const override { return cross_entropy_scratch(args_.rows); }

  void run(const KernelArgs& args) const override {
    CrossEntropyArgs a = args_;
    a.logits = args.inputs[0];
    a.labels = static_cast<const int32_t*>(args.inputs[1]);
    a.loss = static_cast<float*>(args.outputs[0]);
    a.logsumexp = static_cast<float*>(args.outputs[1]);
    a.weight = static_cast<float*>(args.outputs[2]);
    a.scratch = args.scratch;
    cross_entropy(a, stream_);
  }

 private:
  Stream stream_;
  CrossEntropyArgs args_;
};

class CrossEntropyGrad final : public Kernel {
 public:
  CrossEntropyGrad(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream), args_(cross_entropy_args(graph, node)) {
    args_.dlogits_type = element_of(graph, node.outputs, 0);
  }
  const char* implementation() const override { return "cross_entropy_grad"; }

  void run(const KernelArgs& args) const override {
    CrossEntropyArgs a = args_;
    a.logits = args.inputs[0];
    a.labels = static_cast<const int32_t*>(args.inputs[1]);
    a.row_logsumexp = static_cast<const float*>(args.inputs[2]);
    a.row_weight = static_cast<const float*>(args.inputs[3]);
    a.dloss = static_cast<const float*>(args.inputs[4]);
    a.dlogits = args.outputs[0];
    cross_entropy_grad(a, stream_);
  }

 private:
  Stream stream_;
  CrossEntropyArgs args_;
};

bool supports(const Graph& graph, const Node& node, const Target&) {
  return has_element_types(graph, node) && graph.value(node.inputs[1]).dtype == DType::i32 &&
         graph.shape(node.inputs[0])[-1] <= longest_row;
}

}  // namespace

void register_cross_entropy(Registry& registry) {
  registry.add(OpKind::cross_entropy, {"cross_entropy", supports, make_kernel<CrossEntropy>});
  registry.add(OpKind::cross_entropy_grad, {"cross_entropy_grad", supports, make_kernel<CrossEntropyGrad>});
}

}  // namespace mpt::cuda
