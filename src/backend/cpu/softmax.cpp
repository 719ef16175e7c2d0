#include "backend/cpu/softmax.h"

#include "backend/cpu/isa/softmax_kernels.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/row_kernels.h"

namespace mpt::cpu {
namespace {

class SoftmaxKernel : public Kernel {
 public:
  SoftmaxKernel(const Graph& graph, const Node& node, const Target& target)
      : parallel_(target.parallel), kernels_(MPT_CHOOSE_ISA(target.isa, softmax_kernels)()) {
    const auto& attrs = std::get<SoftmaxAttrs>(node.attrs);
    const Shape& shape = graph.shape(node.inputs[0]);
    const int axis = attrs.axis < 0 ? attrs.axis + shape.rank() : attrs.axis;
    task_.n = shape[axis];
    task_.inner = 1;
    task_.log = attrs.log;
    for (int i = 0; i < axis; ++i) outer_ *= shape[i];
    for (int i = axis + 1; i < shape.rank(); ++i) task_.inner *= shape[i];
    task_.x_type = element_of(graph, node.inputs, 0);
    task_.dy_type = element_of(graph, node.inputs, 1);
    task_.out_type = element_of(graph, node.outputs, 0);
  }

 protected:
  // rows(first, last) or columns(outer, column, count) for all of the tensor.
  template <typename Rows, typename Columns>
  void run_all(Rows rows, Columns columns) const {
    if (task_.inner == 1) {
      parallel_.for_range(outer_, rows_per_task(task_.n), rows);
      return;
    }
    const int64_t blocks = (task_.inner + softmax_columns - 1) / softmax_columns;
    parallel_.for_range(outer_ * blocks, rows_per_task(task_.n * std::min(task_.inner, softmax_columns)),
                        [&](int64_t first, int64_t last) {
                          for (int64_t i = first; i < last; ++i) {
                            const int64_t column = i % blocks * softmax_columns;
                            columns(i / blocks, column, std::min(softmax_columns, task_.inner - column));
                          }
                        });
  }

  const Parallel& parallel_;
  SoftmaxKernels kernels_;
  SoftmaxTask task_{};
  int64_t outer_ = 1;
};

class Softmax final : public SoftmaxKernel {
 public:
  using SoftmaxKernel::SoftmaxKernel;
  const char* implementation() const override { return "softmax"; }
  void run(const KernelArgs& args) const override {
    const void* x = args.inputs[0];
    void* y = args.outputs[0];
    run_all([&](int64_t first, int64_t last) { kernels_.rows(task_, x, y, first, last); },
            [&](int64_t outer, int64_t column, int64_t count) { kernels_.columns(task_, x, y, outer, column, count); });
  }
};

class SoftmaxGrad final : public SoftmaxKernel {
 public:
  using SoftmaxKernel::SoftmaxKernel;
  const char* implementation() const override { return "softmax_grad"; }
  void run(const KernelArgs& args) const override {
    const void *y = args.inputs[0], *dy = args.inputs[1];
    void* dx = args.outputs[0];
    run_all([&](int64_t first, int64_t last) { kernels_.rows_grad(task_, y, dy, dx, first, last); },
            [&](int64_t outer, int64_t column, int64_t count) {
              kernels_.columns_grad(task_, y, dy, dx, outer, column, count);
            });
  }
};

bool supports(const Graph& graph, const Node& node, const Target&) { return has_element_types(graph, node); }

}  // namespace

std::unique_ptr<Kernel> make_softmax(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<Softmax>(graph, node, target);
}

std::unique_ptr<Kernel> make_softmax_grad(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<SoftmaxGrad>(graph, node, target);
}

void register_softmax(Registry& registry) {
  registry.add(OpKind::softmax, {"softmax", supports, make_softmax});
  registry.add(OpKind::softmax_grad, {"softmax_grad", supports, make_softmax_grad});
}

}  // namespace mpt::cpu
