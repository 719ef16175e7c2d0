// Chains of element-wise steps over broadcast inputs.
#include "backend/ref/kernels.h"
#include "backend/ref/program.h"

namespace mpt::ref {

std::unique_ptr<Kernel> prepare_elementwise(const Graph& graph, const Node& node) {
  const auto attrs = std::get<ElementwiseAttrs>(node.attrs);
  const int inputs = static_cast<int>(node.inputs.size()), outputs = static_cast<int>(node.outputs.size());
  const auto run = [attrs, inputs, outputs](const Launch& launch) {
    const Program& program = attrs.program;
    double* registers = launch.scratch();
    Tensor x[Walk::max_operands], y[Walk::max_operands];
    Walk walk(attrs.shape);
    for (int i = 0; i < inputs; ++i) {
      x[i] = launch.input(i);
      walk.add(broadcast_strides(x[i].shape, attrs.shape));
    }
    for (int i = 0; i < outputs; ++i) y[i] = launch.output(i);

    const int64_t elements = attrs.shape.elements();
    for (int64_t e = 0; e < elements; ++e, walk.next()) {
      for (int i = 0; i < inputs; ++i) registers[i] = x[i][walk.offset(i)];
      run_program(program, registers, e, launch.vars());
      for (int i = 0; i < outputs; ++i) {
        if (y[i]) y[i].set(e, registers[program.outputs[i]]);
      }
    }
  };
  MPT_INVARIANT(inputs <= Walk::max_operands && outputs <= Walk::max_operands);
  return make_kernel(graph, node, run, doubles(register_count(attrs.program)));
}

}  // namespace mpt::ref
