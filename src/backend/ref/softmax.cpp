// Softmax and log-softmax along an axis.
#include <cmath>
#include <limits>

#include "backend/ref/kernels.h"

namespace mpt::ref {

std::unique_ptr<Kernel> prepare_softmax(const Graph& graph, const Node& node) {
  const auto attrs = std::get<SoftmaxAttrs>(node.attrs);
  const auto run = [attrs](const Launch& launch) {
    const Tensor x = launch.input(0), y = launch.output(0);
    const AxisView view(x.shape, attrs.axis);
    for (int64_t o = 0; o < view.outer; ++o) {
      for (int64_t i = 0; i < view.inner; ++i) {
        double maximum = -std::numeric_limits<double>::infinity(), sum = 0;
        for (int64_t a = 0; a < view.size; ++a) maximum = std::fmax(maximum, x[view.at(o, a, i)]);
        for (int64_t a = 0; a < view.size; ++a) sum += std::exp(x[view.at(o, a, i)] - maximum);
        for (int64_t a = 0; a < view.size; ++a) {
          const double shifted = x[view.at(o, a, i)] - maximum;
          y.set(view.at(o, a, i), attrs.log ? shifted - std::log(sum) : std::exp(shifted) / sum);
        }
      }
    }
  };
  return make_kernel(graph, node, run);
}

std::unique_ptr<Kernel> prepare_softmax_grad(const Graph& graph, const Node& node) {
  const auto attrs = std::get<SoftmaxAttrs>(node.attrs);
  const auto run = [attrs](const Launch& launch) {
    const Tensor y = launch.input(0), dy = launch.input(1), dx = launch.output(0);
    const AxisView view(y.shape, attrs.axis);
    for (int64_t o = 0; o < view.outer; ++o) {
      for (int64_t i = 0; i < view.inner; ++i) {
        double sum = 0;
        for (int64_t a = 0; a < view.size; ++a) {
          const int64_t e = view.at(o, a, i);
          sum += attrs.log ? dy[e] : dy[e] * y[e];
        }
        for (int64_t a = 0; a < view.size; ++a) {
          const int64_t e = view.at(o, a, i);
          dx.set(e, attrs.log ? dy[e] - std::exp(y[e]) * sum : y[e] * (dy[e] - sum));
        }
      }
    }
  };
  return make_kernel(graph, node, run);
}

}  // namespace mpt::ref
