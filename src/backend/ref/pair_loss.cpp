// Losses that compare two tensors element by element.
#include <cmath>

#include "backend/ref/kernels.h"

namespace mpt::ref {

namespace {

double value(PairLoss loss, double x, double t) {
  switch (loss) {
    case PairLoss::mse:
      return (x - t) * (x - t);
    case PairLoss::l1:
      return std::fabs(x - t);
    case PairLoss::bce:
      return (x > 0 ? x : 0) - x * t + std::log1p(std::exp(-std::fabs(x)));
  }
  return 0;
}

double derivative_by_x(PairLoss loss, double x, double t) {
  switch (loss) {
    case PairLoss::mse:
      return 2 * (x - t);
    case PairLoss::l1:
      return x > t ? 1 : x < t ? -1 : 0 * (x - t);  // NaN stays NaN
    case PairLoss::bce:
      return 1 / (1 + std::exp(-x)) - t;
  }
  return 0;
}

double derivative_by_target(PairLoss loss, double x, double t) {
  return loss == PairLoss::bce ? -x : -derivative_by_x(loss, x, t);
}

}  // namespace

std::unique_ptr<Kernel> prepare_pair_loss(const Graph& graph, const Node& node) {
  const auto attrs = std::get<PairLossAttrs>(node.attrs);
  const auto run = [attrs](const Launch& launch) {
    const Tensor x = launch.input(0), target = launch.input(1), loss = launch.output(0);
    double sum = 0;
    for (int64_t i = 0; i < x.elements; ++i) sum += value(attrs.loss, x[i], target[i]);
    loss.set(0, attrs.mean ? sum / static_cast<double>(x.elements) : sum);
  };
  return make_kernel(graph, node, run);
}

std::unique_ptr<Kernel> prepare_pair_loss_grad(const Graph& graph, const Node& node) {
  const auto attrs = std::get<PairLossAttrs>(node.attrs);
  const auto run = [attrs](const Launch& launch) {
    const Tensor x = launch.input(0), target = launch.input(1), dloss = launch.input(2);
    const Tensor dx = launch.output(0), dtarget = launch.output(1);
    const double factor = attrs.mean ? dloss[0] / static_cast<double>(x.elements) : dloss[0];
    for (int64_t i = 0; i < x.elements; ++i) {
      const double a = x[i], t = target[i];
      if (dx) dx.set(i, factor * derivative_by_x(attrs.loss, a, t));
      if (dtarget) dtarget.set(i, factor * derivative_by_target(attrs.loss, a, t));
    }
  };
  return make_kernel(graph, node, run);
}

}  // namespace mpt::ref
