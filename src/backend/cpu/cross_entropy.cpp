#include "backend/cpu/cross_entropy.h"

#include "backend/cpu/isa/cross_entropy_kernels.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/row_kernels.h"

namespace mpt::cpu {
namespace {

CrossEntropyTask task_of(const Graph& graph, const Node& node, Element dlogits_type) {
  const auto& attrs = std::get<CrossEntropyAttrs>(node.attrs);
  return {graph.shape(node.inputs[0])[-1], static_cast<float>(attrs.label_smoothing), attrs.ignore_index,
          element_of(graph, node.inputs, 0), dlogits_type};
}

class CrossEntropy final : public Kernel {
 public:
  CrossEntropy(const Graph& graph, const Node& node, const Target& target)
      : parallel_(target.parallel),
        kernels_(MPT_CHOOSE_ISA(target.isa, cross_entropy_kernels)()),
        task_(task_of(graph, node, Element::f32)),
        rows_(graph.shape(node.inputs[0]).elements() / task_.classes),
        mean_(std::get<CrossEntropyAttrs>(node.attrs).mean) {}
  const char* implementation() const override { return "cross_entropy"; }
  uint64_t scratch_bytes() const override { return static_cast<uint64_t>(rows_) * sizeof(float); }

  void run(const KernelArgs& args) const override {
    const auto* labels = static_cast<const int32_t*>(args.inputs[1]);
    auto* losses = static_cast<float*>(args.scratch);
    auto* logsumexp = static_cast<float*>(args.outputs[1]);
    parallel_.for_range(rows_, rows_per_task(task_.classes), [&](int64_t first, int64_t last) {
      kernels_.rows(task_, args.inputs[0], labels, first, last, losses, logsumexp);
    });
    double sum = 0;
    int64_t counted = 0;
    for (int64_t row = 0; row < rows_; ++row) {
      sum += losses[row];
      counted += labels[row] != task_.ignore_index;
    }
    const double weight = !mean_ ? 1 : counted == 0 ? 0 : 1 / static_cast<double>(counted);
    *static_cast<float*>(args.outputs[0]) = static_cast<float>(sum * weight);
    *static_cast<float*>(args.outputs[2]) = static_cast<float>(weight);
  }

 private:
  const Parallel& parallel_;
  CrossEntropyKernels kernels_;
  CrossEntropyTask task_;
  int64_t rows_;
  bool mean_;
};

class CrossEntropyGrad final : public Kernel {
 public:
  CrossEntropyGrad(const Graph& graph, const Node& node, const Target& target)
      : parallel_(target.parallel),
        kernels_(MPT_CHOOSE_ISA(target.isa, cross_entropy_kernels)()),
        task_(task_of(graph, node, element_of(graph, node.outputs, 0))),
        rows_(graph.shape(node.inputs[0]).elements() / task_.classes) {}
  const char* implementation() const override { return "cross_entropy_grad"; }

  void run(const KernelArgs& args) const override {
    const auto* labels = static_cast<const int32_t*>(args.inputs[1]);
    const auto* logsumexp = static_cast<const float*>(args.inputs[2]);
    const float factor = *static_cast<const float*>(args.inputs[3]) * *static_cast<const float*>(args.inputs[4]);
    parallel_.for_range(rows_, rows_per_task(task_.classes), [&](int64_t first, int64_t last) {
      kernels_.rows_grad(task_, args.inputs[0], labels, logsumexp, factor, first, last, args.outputs[0]);
    });
  }

 private:
  const Parallel& parallel_;
  CrossEntropyKernels kernels_;
  CrossEntropyTask task_;
  int64_t rows_;
};

// Labels are int32; statistics and scalars FP32.
bool supports(const Graph& graph, const Node& node, const Target&) {
  return has_element_types(graph, node) && graph.value(node.inputs[1]).dtype == DType::i32;
}

}  // namespace

std::unique_ptr<Kernel> make_cross_entropy(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<CrossEntropy>(graph, node, target);
}

std::unique_ptr<Kernel> make_cross_entropy_grad(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<CrossEntropyGrad>(graph, node, target);
}

void register_cross_entropy(Registry& registry) {
  registry.add(OpKind::cross_entropy, {"cross_entropy", supports, make_cross_entropy});
  registry.add(OpKind::cross_entropy_grad, {"cross_entropy_grad", supports, make_cross_entropy_grad});
}

}  // namespace mpt::cpu
