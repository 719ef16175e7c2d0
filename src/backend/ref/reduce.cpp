// Sum, mean and maximum over any axes.
#include <limits>

#include "backend/ref/kernels.h"

namespace mpt::ref {

namespace {

// Strides by which an element of x finds its element of y: 0 along the reduced axes.
Strides result_strides(const Shape& x, const std::vector<int>& axes) {
  Shape kept = x;
  for (int axis : axes) kept[axis] = 1;
  return broadcast_strides(kept, x);
}

}  // namespace

std::unique_ptr<Kernel> prepare_reduce(const Graph& graph, const Node& node) {
  const auto attrs = std::get<ReduceAttrs>(node.attrs);
  const auto run = [attrs](const Launch& launch) {
    const Tensor x = launch.input(0), y = launch.output(0);
    const bool maximum = attrs.reduction == Reduction::max;
    double* results = launch.scratch();
    for (int64_t i = 0; i < y.elements; ++i) results[i] = maximum ? -std::numeric_limits<double>::infinity() : 0;

    Walk walk(x.shape);
    walk.add(result_strides(x.shape, attrs.axes));
    for (int64_t e = 0; e < x.elements; ++e, walk.next()) {
      double& result = results[walk.offset(0)];
      if (!maximum) {
        result += x[e];
      } else if (!(x[e] <= result) && result == result) {  // a NaN is taken and then stays
        result = x[e];
      }
    }
    const double count = static_cast<double>(x.elements) / static_cast<double>(y.elements);
    for (int64_t i = 0; i < y.elements; ++i) {
      y.set(i, attrs.reduction == Reduction::mean ? results[i] / count : results[i]);
    }
  };
  return make_kernel(graph, node, run, doubles(graph.shape(node.outputs.at(0)).elements()));
}

// The gradient goes to the first element that equals the maximum.
std::unique_ptr<Kernel> prepare_reduce_max_grad(const Graph& graph, const Node& node) {
  const auto attrs = std::get<ReduceAttrs>(node.attrs);
  const auto run = [attrs](const Launch& launch) {
    const Tensor x = launch.input(0), y = launch.input(1), dy = launch.input(2), dx = launch.output(0);
    double* taken = launch.scratch();
    for (int64_t i = 0; i < y.elements; ++i) taken[i] = 0;

    Walk walk(x.shape);
    walk.add(result_strides(x.shape, attrs.axes));
    for (int64_t e = 0; e < x.elements; ++e, walk.next()) {
      const int64_t i = walk.offset(0);
      const bool first = taken[i] == 0 && x[e] == y[i];
      if (first) taken[i] = 1;
      dx.set(e, first ? dy[i] : 0);
    }
  };
  return make_kernel(graph, node, run, doubles(graph.shape(node.inputs.at(1)).elements()));
}

}  // namespace mpt::ref
