// Ops with the caller's own functions, which enqueue on the step's stream. They are called whenever the step is enqueued: once
// for a recorded step.
#include <algorithm>
#include <vector>

#include "backend/cuda/kernels.h"
#include "backend/cuda/registry.h"
#include "core/error.h"

namespace mpt::cuda {
namespace {

class CustomKernel : public Kernel {
 public:
  CustomKernel(const Graph& graph, const Node& node, const Target& target)
      : name_(node.name),
        attrs_(std::get<CustomAttrs>(node.attrs)),
        backward_(node.kind == OpKind::custom_grad),
        stream_(target.stream) {
    for (ValueId id : node.inputs) inputs_.push_back(describe(graph, id));
    for (ValueId id : node.outputs) outputs_.push_back(describe(graph, id));
    MPT_INVARIANT(inputs_.size() + outputs_.size() <= most_arrays);
  }

  uint64_t scratch_bytes() const override { return attrs_.scratch_bytes; }
  const char* implementation() const override { return "custom"; }

  void run(const KernelArgs& args) const override {
    mpt_array arrays[most_arrays];  // scratch is the device's
    std::copy(inputs_.begin(), inputs_.end(), arrays);
    for (std::size_t i = 0; i < inputs_.size(); ++i) arrays[i].data = const_cast<void*>(args.inputs[i]);
    mpt_array* results = arrays + inputs_.size();
    std::copy(outputs_.begin(), outputs_.end(), results);
    for (std::size_t i = 0; i < outputs_.size(); ++i) results[i].data = args.outputs[i];
    void* scratch = attrs_.scratch_bytes > 0 ? args.scratch : nullptr;
    const int n_inputs = attrs_.n_inputs, n_outputs = attrs_.n_outputs;
    const int32_t answer = backward_
                               ? attrs_.backward(attrs_.user, arrays, n_inputs, arrays + n_inputs,
                                                 arrays + n_inputs + n_outputs, n_outputs, results, scratch, stream_)
                               : attrs_.forward(attrs_.user, arrays, n_inputs, results, n_outputs, scratch, stream_);
    if (answer != 0)
      fail(MPT_ERROR_INVALID_STATE, "custom op '%s': its %s function returned %d, expected 0", name_.c_str(),
           backward_ ? "backward" : "forward", answer);
  }

 private:
  // An op has at most 64 inputs and 64 outputs; a gradient has both, and the gradients of both.
  static constexpr std::size_t most_arrays = 256;

  static mpt_array describe(const Graph& graph, ValueId id) {
    mpt_array array{};
    array.device_type = MPT_DEVICE_CUDA;
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
  Stream stream_;
  std::vector<mpt_array> inputs_, outputs_;
};

bool supports(const Graph&, const Node&, const Target&) { return true; }

std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<CustomKernel>(graph, node, target);
}

}  // namespace

void register_custom(Registry& registry) {
  registry.add(OpKind::custom, {"custom", supports, prepare});
  registry.add(OpKind::custom_grad, {"custom", supports, prepare});
}

}  // namespace mpt::cuda
