// Layer and RMS normalisation over the last axis, and their gradients.
#include "kernels/norm.h"

#include "backend/cuda/kernels.h"
#include "backend/cuda/row_kernels.h"

namespace mpt::cuda {
namespace {

class Norm final : public Kernel {
 public:
  Norm(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream), inputs_(node.inputs.size()), outputs_(node.outputs.size()) {
    const auto& attrs = std::get<NormAttrs>(node.attrs);
    const Shape& shape = graph.shape(node.inputs[0]);
    args_.n = static_cast<int32_t>(shape[-1]);
    args_.rows = shape.elements() / shape[-1];
    args_.epsilon = static_cast<float>(attrs.epsilon);
    args_.rms = attrs.rms;
    args_.x_type = element_of(graph, node.inputs, 0);
    args_.residual_type = element_of(graph, node.inputs, 3);
    args_.y_type = element_of(graph, node.outputs, 0);
    args_.sum_type = element_of(graph, node.outputs, 3);
  }
  const char* implementation() const override { return "norm"; }

  void run(const KernelArgs& args) const override {
    const auto input = [&](std::size_t i) { return i < inputs_ ? args.inputs[i] : nullptr; };
    const auto output = [&](std::size_t i) { return i < outputs_ ? args.outputs[i] : nullptr; };
    NormArgs a = args_;
    a.x = input(0);
    a.weight = static_cast<const float*>(input(1));
    a.bias = static_cast<const float*>(input(2));
    a.residual = input(3);
    a.y = output(0);
    a.mean = static_cast<float*>(output(1));
    a.rstd = static_cast<float*>(output(2));
    a.sum = output(3);
    norm(a, stream_);
  }

 private:
  Stream stream_;
  std::size_t inputs_, outputs_;
  NormArgs args_{};
};

class NormGrad final : public Kernel {
 public:
  NormGrad(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream), inputs_(node.inputs.size()) {
    const Shape& shape = graph.shape(node.inputs[0]);
    args_.n = static_cast<int32_t>(shape[-1]);
    args_.rows = shape.elements() / shape[-1];
    args_.rms = std::get<NormAttrs>(node.attrs).rms;
    args_.x_type = element_of(graph, node.inputs, 0);
    args_.dy_type = element_of(graph, node.inputs, 4);
    args_.add_type = element_of(graph, node.inputs, 5);
    args_.dx_type = element_of(graph, node.outputs, 0);
    for (std::size_t i = 0; i < 3; ++i) wanted_[i] = has(node.outputs, i);
  }
  const char* implementation() const override { return "norm_grad"; }
  uint64_t scratch_bytes() const override {
    return static_cast<uint64_t>((wanted_[1] + wanted_[2]) * norm_grad_parts(args_.rows, args_.n)) * sizeof(float);
  }

  void run(const KernelArgs& args) const override {
    NormGradArgs a = args_;
    a.x = args.inputs[0];
    a.weight = static_cast<const float*>(args.inputs[1]);
    a.mean = static_cast<const float*>(args.inputs[2]);
    a.rstd = static_cast<const float*>(args.inputs[3]);
    a.dy = args.inputs[4];
    a.add = inputs_ > 5 ? args.inputs[5] : nullptr;
    a.dx = wanted_[0] ? args.outputs[0] : nullptr;
    a.dweight = wanted_[1] ? static_cast<float*>(args.outputs[1]) : nullptr;
    a.dbias = wanted_[2] ? static_cast<float*>(args.outputs[2]) : nullptr;
    a.parts = static_cast<float*>(args.scratch);
    norm_grad(a, stream_);
  }

 private:
  Stream stream_;
  std::size_t inputs_;
  bool wanted_[3] = {};
  NormGradArgs args_{};
};

bool fits(const Graph& graph, const Node& node) {
  return has_element_types(graph, node) && graph.shape(node.inputs[0])[-1] <= longest_row;
}

bool supports(const Graph& graph, const Node& node, const Target&) {
  return fits(graph, node) && are_f32(graph, node.inputs, {1, 2}) && are_f32(graph, node.outputs, {1, 2});
}

bool supports_grad(const Graph& graph, const Node& node, const Target&) {
  return fits(graph, node) && are_f32(graph, node.inputs, {1, 2, 3}) && are_f32(graph, node.outputs, {1, 2});
}

}  // namespace

void register_norm(Registry& registry) {
  registry.add(OpKind::norm, {"norm", supports, make_kernel<Norm>});
  registry.add(OpKind::norm_grad, {"norm_grad", supports_grad, make_kernel<NormGrad>});
}

}  // namespace mpt::cuda
