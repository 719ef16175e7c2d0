// Adds up a gradient over micro-steps, in FP32.
#include "backend/cpu/kernels.h"
#include "backend/cpu/registry.h"
#include "backend/cpu/rows.h"

namespace mpt::cpu {
namespace {

class AccumulateKernel : public Kernel {
 public:
  AccumulateKernel(const Value& x, const Target& target)
      : parallel_(target.parallel), rows_(target.isa), type_(element_of(x.dtype)), elements_(x.shape.elements()) {}

  void run(const KernelArgs& args) const override {
    constexpr int64_t grain = 16384;
    auto* sums = static_cast<float*>(args.outputs[0]);
    const bool first = args.vars->micro_step == 0;
    parallel_.for_range(elements_, grain, [&](int64_t begin, int64_t end) {
      rows_.combine(Combine::sum, {type_, args.inputs[0], begin}, end - begin, first, sums + begin);
    });
  }
  const char* implementation() const override { return "accumulate"; }

 private:
  const Parallel& parallel_;
  Rows rows_;
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

}  // namespace mpt::cpu
