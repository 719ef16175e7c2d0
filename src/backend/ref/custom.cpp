// The caller's own ops: the same functions as on any host backend.
#include "backend/ref/kernels.h"

namespace mpt::ref {

namespace {

mpt_array array_of(const Tensor& tensor) {
  mpt_array array{};
  array.data = tensor.data;
  array.dtype = static_cast<mpt_dtype>(tensor.dtype);
  array.rank = tensor.shape.rank();
  for (int i = 0; i < tensor.shape.rank(); ++i) array.shape[i] = tensor.shape[i];
  array.device_type = MPT_DEVICE_CPU;
  return array;
}

// Scratch holds the caller's part, then the descriptions of the tensors.
uint64_t caller_bytes(const CustomAttrs& attrs) { return (attrs.scratch_bytes + 63) / 64 * 64; }

mpt_array* array_space(const CustomAttrs& attrs, const Launch& launch) {
  return reinterpret_cast<mpt_array*>(reinterpret_cast<char*>(launch.scratch()) + caller_bytes(attrs));
}

void check(int32_t result, const std::string& name, const char* which) {
  if (result != 0) {
    fail(MPT_ERROR_INVALID_STATE, "custom op '%s': its %s function returned %d, expected 0", name.c_str(), which,
         result);
  }
}

}  // namespace

std::unique_ptr<Kernel> prepare_custom(const Graph& graph, const Node& node) {
  const auto attrs = std::get<CustomAttrs>(node.attrs);
  const auto run = [attrs, name = node.name](const Launch& launch) {
    mpt_array* inputs = array_space(attrs, launch);
    mpt_array* outputs = inputs + attrs.n_inputs;
    for (int i = 0; i < attrs.n_inputs; ++i) inputs[i] = array_of(launch.input(i));
    for (int i = 0; i < attrs.n_outputs; ++i) outputs[i] = array_of(launch.output(i));
    check(attrs.forward(attrs.user, inputs, attrs.n_inputs, outputs, attrs.n_outputs, launch.scratch(), nullptr), name,
          "forward");
  };
  const uint64_t arrays = sizeof(mpt_array) * (node.inputs.size() + node.outputs.size());
  return make_kernel(graph, node, run, caller_bytes(attrs) + arrays);
}

std::unique_ptr<Kernel> prepare_custom_grad(const Graph& graph, const Node& node) {
  const auto attrs = std::get<CustomAttrs>(node.attrs);
  const auto run = [attrs, name = node.name](const Launch& launch) {
    mpt_array* inputs = array_space(attrs, launch);
    mpt_array* outputs = inputs + attrs.n_inputs;
    mpt_array* output_gradients = outputs + attrs.n_outputs;
    mpt_array* input_gradients = output_gradients + attrs.n_outputs;
    for (int i = 0; i < attrs.n_inputs; ++i) {
      inputs[i] = array_of(launch.input(i));
      input_gradients[i] = array_of(launch.output(i));
    }
    for (int i = 0; i < attrs.n_outputs; ++i) {
      outputs[i] = array_of(launch.input(attrs.n_inputs + i));
      output_gradients[i] = array_of(launch.input(attrs.n_inputs + attrs.n_outputs + i));
    }
    check(attrs.backward(attrs.user, inputs, attrs.n_inputs, outputs, output_gradients, attrs.n_outputs,
                         input_gradients, launch.scratch(), nullptr),
          name, "backward");
  };
  const uint64_t arrays = sizeof(mpt_array) * (node.inputs.size() + node.outputs.size());
  return make_kernel(graph, node, run, caller_bytes(attrs) + arrays);
}

}  // namespace mpt::ref
