// Ops with the caller's own functions. The descriptions of the tensors are made at each run, in scratch behind the caller's
// part of it.
#include "backend/cpu/kernels.h"
#include "backend/cpu/registry.h"
#include "core/error.h"

namespace mpt::cpu {
namespace {

class CustomKernel : public Kernel {
 public:
  CustomKernel(const Graph& graph, const Node& node)
      : name_(node.name), attrs_(std::get<CustomAttrs>(node.attrs)), backward_(node.kind == OpKind::custom_grad) {
    for (ValueId id : node.inputs) inputs_.push_back(describe(graph, id));
    for (ValueId id : node.outputs) outputs_.push_back(describe(graph, id));
  }

  uint64_t scratch_bytes() const override {
    return own_scratch() + sizeof(mpt_array) * (inputs_.size() + outputs_.size());
  }
  const char* implementation() const override { return "custom"; }

  void run(const KernelArgs& args) const override {
    auto* arrays = reinterpret_cast<mpt_array*>(static_cast<char*>(args.scratch) + own_scratch());
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      arrays[i] = inputs_[i];
      arrays[i].data = const_cast<void*>(args.inputs[i]);
    }
    mpt_array* results = arrays + inputs_.size();
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      results[i] = outputs_[i];
      results[i].data = args.outputs[i];
    }
    void* scratch = attrs_.scratch_bytes > 0 ? args.scratch : nullptr;
    const int n_inputs = attrs_.n_inputs, n_outputs = attrs_.n_outputs;
    const int32_t answer = backward_
                               ? attrs_.backward(attrs_.user, arrays, n_inputs, arrays + n_inputs,
                                                 arrays + n_inputs + n_outputs, n_outputs, results, scratch, nullptr)
                               : attrs_.forward(attrs_.user, arrays, n_inputs, results, n_outputs, scratch, nullptr);
    if (answer != 0)
      fail(MPT_ERROR_INVALID_STATE, "custom op '%s': its %s function returned %d, expected 0", name_.c_str(),
           backward_ ? "backward" : "forward", answer);
  }

 private:
  uint64_t own_scratch() const { return (attrs_.scratch_bytes + 63) / 64 * 64; }

  static mpt_array describe(const Graph& graph, ValueId id) {
    mpt_array array{};
    array.device_type = MPT_DEVICE_CPU;
    if (id == none) return array;
    const Value& value = graph.value(id);
    array.dtype = static_cast<mpt_dtype>(value.dtype);
    array.rank = value.shape.rank();
    for (int d = 0; d < value.shape.rank(); ++d) array.shape[d] = value.shape[d];
    return array;
  }

  std::string name_;
  CustomAttrs attrs_;
  bool backward_;
  std::vector<mpt_array> inputs_, outputs_;
};

bool supports(const Graph&, const Node&, const Target&) { return true; }

std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node, const Target&) {
  return std::make_unique<CustomKernel>(graph, node);
}

}  // namespace

void register_custom(Registry& registry) {
  registry.add(OpKind::custom, {"custom", supports, prepare});
  registry.add(OpKind::custom_grad, {"custom", supports, prepare});
}

}  // namespace mpt::cpu
