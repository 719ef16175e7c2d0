// Sum, mean and maximum over any axes.
#include <cmath>
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

// A NaN is larger than any number and stays.
bool is_larger(double x, double best) { return x > best || (std::isnan(x) && !std::isnan(best)); }

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
      } else if (is_larger(x[e], result)) {
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

// The gradient goes to the first of the largest elements of x; y may have been rounded and is not asked.
std::unique_ptr<Kernel> prepare_reduce_max_grad(const Graph& graph, const Node& node) {
  const auto attrs = std::get<ReduceAttrs>(node.attrs);
  const auto run = [attrs](const Launch& launch) {
    const Tensor x = launch.input(0), dy = launch.input(2), dx = launch.output(0);
    double* best = launch.scratch();  // the position of the largest element for each result
    for (int64_t i = 0; i < dy.elements; ++i) best[i] = -1;

    Walk walk(x.shape);
    walk.add(result_strides(x.shape, attrs.axes));
    for (int64_t e = 0; e < x.elements; ++e, walk.next()) {
      double& at = best[walk.offset(0)];
      if (at < 0 || is_larger(x[e], x[static_cast<int64_t>(at)])) at = static_cast<double>(e);
      dx.set(e, 0);
    }
    for (int64_t i = 0; i < dy.elements; ++i) {
      if (best[i] >= 0) dx.set(static_cast<int64_t>(best[i]), dy[i]);
    }
  };
  return make_kernel(graph, node, run, doubles(graph.shape(node.inputs.at(1)).elements()));
}

}  // namespace mpt::ref
