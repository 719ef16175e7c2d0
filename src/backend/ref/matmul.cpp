// c = epilogue(op(a) op(b)) for every matrix of a broadcast batch.
#include "backend/ref/kernels.h"
#include "backend/ref/program.h"

namespace mpt::ref {

namespace {

// The strides with which the matrices of x are read for each matrix of c; 0 where one is used again.
Strides batch_strides(const Shape& x, const Shape& batch) {
  Shape own;
  for (int i = 0; i + 2 < x.rank(); ++i) own.push_back(x[i]);
  Strides strides = broadcast_strides(own, batch);
  for (int i = 0; i < batch.rank(); ++i) strides[i] *= x[-1] * x[-2];
  return strides;
}

}  // namespace

std::unique_ptr<Kernel> prepare_matmul(const Graph& graph, const Node& node) {
  const auto attrs = std::get<MatmulAttrs>(node.attrs);
  const Shape shape = graph.shape(node.outputs.at(0));
  const int inputs = static_cast<int>(node.inputs.size()), outputs = static_cast<int>(node.outputs.size());
  MPT_INVARIANT(inputs <= Walk::max_operands && outputs <= Walk::max_operands);

  const auto run = [attrs, shape, inputs, outputs](const Launch& launch) {
    const Tensor a = launch.input(0), b = launch.input(1);
    const int64_t rows = shape[-2], columns = shape[-1];
    const int64_t depth = attrs.transpose_a ? a.shape[-2] : a.shape[-1];
    const int64_t a_row = attrs.transpose_a ? 1 : depth, a_depth = attrs.transpose_a ? rows : 1;
    const int64_t b_column = attrs.transpose_b ? depth : 1, b_depth = attrs.transpose_b ? 1 : columns;

    // Both operands widened, so that the inner loop below is the textbook's.
    double* wide_a = launch.scratch();
    double* wide_b = wide_a + a.elements;
    double* registers = wide_b + b.elements;
    for (int64_t i = 0; i < a.elements; ++i) wide_a[i] = a[i];
    for (int64_t i = 0; i < b.elements; ++i) wide_b[i] = b[i];

    Tensor extra[Walk::max_operands], c[Walk::max_operands];
    Walk element(shape);
    for (int i = 2; i < inputs; ++i) {
      extra[i] = launch.input(i);
      element.add(broadcast_strides(extra[i].shape, shape));
    }
    for (int i = 0; i < outputs; ++i) c[i] = launch.output(i);

    Shape batch;
    for (int i = 0; i + 2 < shape.rank(); ++i) batch.push_back(shape[i]);
    Walk matrix(batch);
    matrix.add(batch_strides(a.shape, batch));
    matrix.add(batch_strides(b.shape, batch));
    int64_t e = 0;
    for (int64_t m = 0; m < batch.elements(); ++m, matrix.next()) {
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j, ++e, element.next()) {
          const double* left = wide_a + matrix.offset(0) + i * a_row;
          const double* right = wide_b + matrix.offset(1) + j * b_column;
          double sum = 0;
          for (int64_t k = 0; k < depth; ++k) sum += left[k * a_depth] * right[k * b_depth];

          registers[0] = sum;
          for (int x = 2; x < inputs; ++x) registers[x - 1] = extra[x][element.offset(x - 2)];
          run_program(attrs.epilogue, registers, e, launch.vars());
          for (int y = 0; y < outputs; ++y) {
            if (c[y]) c[y].set(e, registers[attrs.epilogue.outputs.empty() ? 0 : attrs.epilogue.outputs[y]]);
          }
        }
      }
    }
  };
  const int64_t operands = graph.shape(node.inputs[0]).elements() + graph.shape(node.inputs[1]).elements();
  const int64_t registers = inputs + static_cast<int64_t>(attrs.epilogue.steps.size());
  return make_kernel(graph, node, run, doubles(operands + registers));
}

}  // namespace mpt::ref
