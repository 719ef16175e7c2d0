#include "backend/cpu/norm.h"

#include "backend/cpu/isa/norm_kernels.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/row_kernels.h"

namespace mpt::cpu {
namespace {

NormShape norm_shape(const Graph& graph, const Node& node) {
  const auto& attrs = std::get<NormAttrs>(node.attrs);
  return {graph.shape(node.inputs[0])[-1], static_cast<float>(attrs.epsilon), attrs.rms};
}

class Norm final : public Kernel {
 public:
  Norm(const Graph& graph, const Node& node, const Target& target)
      : parallel_(target.parallel),
        kernels_(MPT_CHOOSE_ISA(target.isa, norm_kernels)()),
        shape_(norm_shape(graph, node)) {
    rows_ = graph.shape(node.inputs[0]).elements() / shape_.n;
    inputs_ = node.inputs.size();
    outputs_ = node.outputs.size();
    types_.x_type = element_of(graph, node.inputs, 0);
    types_.residual_type = element_of(graph, node.inputs, 3);
    types_.y_type = element_of(graph, node.outputs, 0);
    types_.sum_type = element_of(graph, node.outputs, 3);
  }
  const char* implementation() const override { return "norm"; }
  uint64_t scratch_bytes() const override {
    return row_floats() * sizeof(float) * static_cast<uint64_t>(parallel_.threads());
  }

  void run(const KernelArgs& args) const override {
    const auto input = [&](std::size_t i) { return i < inputs_ ? args.inputs[i] : nullptr; };
    const auto output = [&](std::size_t i) { return i < outputs_ ? args.outputs[i] : nullptr; };
    NormTensors t = types_;
    t.x = input(0);
    t.weight = static_cast<const float*>(input(1));
    t.bias = static_cast<const float*>(input(2));
    t.residual = input(3);
    t.y = output(0);
    t.mean = static_cast<float*>(output(1));
    t.rstd = static_cast<float*>(output(2));
    t.sum = output(3);
    const int64_t grain = rows_per_task(shape_.n);
    parallel_.run((rows_ + grain - 1) / grain, [&](int64_t task, int worker) {
      kernels_.rows(shape_, t, task * grain, std::min((task + 1) * grain, rows_),
                    static_cast<float*>(args.scratch) + static_cast<uint64_t>(worker) * row_floats());
    });
  }

 private:
  uint64_t row_floats() const { return static_cast<uint64_t>(shape_.n + 15) / 16 * 16; }

  const Parallel& parallel_;
  NormKernels kernels_;
  NormShape shape_;
  int64_t rows_ = 0;
  std::size_t inputs_ = 0, outputs_ = 0;
  NormTensors types_{};
};

// Weight and bias gradients are summed over fixed chunks of rows, then over the chunks in their order.
class NormGrad final : public Kernel {
 public:
  NormGrad(const Graph& graph, const Node& node, const Target& target)
      : parallel_(target.parallel),
        kernels_(MPT_CHOOSE_ISA(target.isa, norm_kernels)()),
        shape_(norm_shape(graph, node)) {
    rows_ = graph.shape(node.inputs[0]).elements() / shape_.n;
    constexpr int64_t least_rows = 16, most_chunks = 64;
    chunk_ = std::max({least_rows, (rows_ + most_chunks - 1) / most_chunks});
    chunks_ = (rows_ + chunk_ - 1) / chunk_;
    inputs_ = node.inputs.size();
    for (std::size_t i = 0; i < 3; ++i) wanted_[i] = i < node.outputs.size() && node.outputs[i] != none;
    types_.x_type = element_of(graph, node.inputs, 0);
    types_.dy_type = element_of(graph, node.inputs, 4);
    types_.add_type = element_of(graph, node.inputs, 5);
    types_.dx_type = element_of(graph, node.outputs, 0);
    length_ = (shape_.n + 15) / 16 * 16;
    parts_ = 2 * length_ * parallel_.threads();
  }
  const char* implementation() const override { return "norm_grad"; }
  uint64_t scratch_bytes() const override {
    return static_cast<uint64_t>(parts_ + (wanted_[1] + wanted_[2]) * chunks_ * length_) * sizeof(float);
  }

  void run(const KernelArgs& args) const override {
    NormGradTensors t = types_;
    t.x = args.inputs[0];
    t.weight = static_cast<const float*>(args.inputs[1]);
    t.mean = static_cast<const float*>(args.inputs[2]);
    t.rstd = static_cast<const float*>(args.inputs[3]);
    t.dy = args.inputs[4];
    t.add = inputs_ > 5 ? args.inputs[5] : nullptr;
    t.dx = wanted_[0] ? args.outputs[0] : nullptr;
    float* scratch = static_cast<float*>(args.scratch);
    float* weight_parts = wanted_[1] ? scratch + parts_ : nullptr;
    float* bias_parts = wanted_[2] ? scratch + parts_ + wanted_[1] * chunks_ * length_ : nullptr;
    parallel_.run(chunks_, [&](int64_t task, int worker) {
      kernels_.rows_grad(shape_, t, task * chunk_, std::min((task + 1) * chunk_, rows_),
                         weight_parts != nullptr ? weight_parts + task * length_ : nullptr,
                         bias_parts != nullptr ? bias_parts + task * length_ : nullptr, scratch + worker * 2 * length_);
    });
    add_parts(weight_parts, wanted_[1] ? args.outputs[1] : nullptr);
    add_parts(bias_parts, wanted_[2] ? args.outputs[2] : nullptr);
  }

 private:
  void add_parts(const float* parts, void* out) const {
    if (out == nullptr) return;
    parallel_.for_range(shape_.n, 512, [&](int64_t first, int64_t last) {
      kernels_.add_parts(parts + first, chunks_, length_, last - first, static_cast<float*>(out) + first);
    });
  }

  const Parallel& parallel_;
  NormKernels kernels_;
  NormShape shape_;
  int64_t rows_ = 0, chunk_ = 0, chunks_ = 0, length_ = 0, parts_ = 0;
  std::size_t inputs_ = 0;
  bool wanted_[3] = {};
  NormGradTensors types_{};
};

bool is_f32(const Graph& graph, const std::vector<ValueId>& ids, std::initializer_list<std::size_t> which) {
  return std::all_of(which.begin(), which.end(), [&](std::size_t i) {
    return i >= ids.size() || ids[i] == none || graph.value(ids[i]).dtype == DType::f32;
  });
}

bool supports(const Graph& graph, const Node& node, const Target&) {
  return has_element_types(graph, node) && is_f32(graph, node.inputs, {1, 2}) && is_f32(graph, node.outputs, {1, 2});
}

bool supports_grad(const Graph& graph, const Node& node, const Target&) {
  return has_element_types(graph, node) && is_f32(graph, node.inputs, {1, 2, 3}) && is_f32(graph, node.outputs, {1, 2});
}

}  // namespace

std::unique_ptr<Kernel> make_norm(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<Norm>(graph, node, target);
}

std::unique_ptr<Kernel> make_norm_grad(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<NormGrad>(graph, node, target);
}

void register_norm(Registry& registry) {
  registry.add(OpKind::norm, {"norm", supports, make_norm});
  registry.add(OpKind::norm_grad, {"norm_grad", supports_grad, make_norm_grad});
}

}  // namespace mpt::cpu
