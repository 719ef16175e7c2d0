// Adds up a gradient over micro-steps, in FP32.
#include "backend/cuda/kernels.h"
#include "backend/cuda/registry.h"
#include "kernels/step_ends.h"

namespace mpt::cuda {
namespace {

class AccumulateKernel : public Kernel {
 public:
  AccumulateKernel(const Value& x, const Target& target)
      : stream_(target.stream), type_(element_of(x.dtype)), elements_(x.shape.elements()) {}

  void run(const KernelArgs& args) const override {
    accumulate(args.inputs[0], type_, elements_, args.vars, static_cast<float*>(args.outputs[0]), stream_);
  }
  const char* implementation() const override { return "accumulate"; }

 private:
  Stream stream_;
  Element type_;
  int64_t elements_;
};

bool supports(const Graph& graph, const Node& node, const Target&) {
  return is_element(graph.value(node.inputs[0]).dtype) && graph.value(node.outputs[0]).dtype == DType::f32;
}

std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<AccumulateKernel>(graph.value(node.inputs[0]), target);
}

}  // namespace

void register_accumulate(Registry& registry) { registry.add(OpKind::accumulate, {"accumulate", supports, prepare}); }

}  // namespace mpt::cuda
