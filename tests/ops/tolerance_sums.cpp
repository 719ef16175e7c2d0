// Reductions, gradients of picks, and losses.
#include <algorithm>

#include "backend/ref/kernel.h"
#include "ops/tolerance_parts.h"

namespace mpt::test {

// Sums of n terms; the mean's factor and product are two more roundings. A maximum is exact.
void bound_reduce(const Bound& bound) {
  const auto& attrs = std::get<ReduceAttrs>(bound.node.attrs);
  if (attrs.reduction == Reduction::max) return;
  const Shape& x = bound.in_shape(0);
  Shape kept = x;
  for (int axis : attrs.axes) kept[axis] = 1;
  ref::Walk walk(x);
  walk.add(broadcast_strides(kept, x));
  Values& error = bound.error[0];
  for (std::size_t e = 0; e < bound.in[0].size(); ++e, walk.next()) error[walk.offset(0)] += std::fabs(bound.in[0][e]);
  const double terms = static_cast<double>(bound.in[0].size()) / static_cast<double>(error.size());
  const bool mean = attrs.reduction == Reduction::mean;
  for (double& e : error) e *= unit * (mean ? (terms + 2) / terms : terms);
}

// Each element is a sum of as many terms as indices name it; none at all gives an exact zero.
void bound_gather_grad(const Bound& bound) {
  const auto& attrs = std::get<GatherAttrs>(bound.node.attrs);
  const ref::AxisView to(bound.out_shape(0), attrs.axis);
  const ref::AxisView from(bound.in_shape(0), attrs.axis, attrs.axis + bound.in_shape(1).rank());
  Values& error = bound.error[0];
  Values count(error.size());
  for (int64_t o = 0; o < from.outer; ++o) {
    for (int64_t a = 0; a < from.size; ++a) {
      for (int64_t i = 0; i < from.inner; ++i) {
        const int64_t target = to.at(o, static_cast<int64_t>(bound.in[1][a]), i);
        error[target] += std::fabs(bound.in[0][from.at(o, a, i)]);
        count[target] += 1;
      }
    }
  }
  for (std::size_t e = 0; e < error.size(); ++e) error[e] *= unit * std::max(0.0, count[e] - 1);
}

namespace {

struct LogSumExp {
  double value = 0, error = 0;
};

// m + log(sum of exp(x - m)): each exponent has the error u |x - m| and exp 2 u more; the log's error is the sum's
// relative error, 2 u of its own result, and a last sum with m.
LogSumExp log_sum_exp(const double* x, int64_t n) {
  const double m = *std::max_element(x, x + n);
  double sum = 0, weighted = 0;
  for (int64_t i = 0; i < n; ++i) {
    sum += std::exp(x[i] - m);
    weighted += std::exp(x[i] - m) * (m - x[i]);
  }
  const double value = m + std::log(sum);
  return {value, unit * (weighted / sum + 2 + static_cast<double>(n) + 2 * std::log(sum) + std::fabs(value))};
}

}  // namespace

// loss = weight * sum over rows of (lse - (1 - s) x[label] - s mean(x)).
void bound_cross_entropy(const Bound& bound) {
  const auto& attrs = std::get<CrossEntropyAttrs>(bound.node.attrs);
  const int64_t classes = bound.in_shape(0)[-1];
  const auto rows = static_cast<int64_t>(bound.in[1].size());
  double loss_error = 0, magnitude = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const double* x = bound.in[0].data() + r * classes;
    const LogSumExp lse = log_sum_exp(x, classes);
    if (bound.has_out(1)) bound.error[1][r] = lse.error;
    const auto label = static_cast<int64_t>(bound.in[1][r]);
    if (label == attrs.ignore_index) continue;
    double mean = 0;
    for (int64_t c = 0; c < classes; ++c) mean += std::fabs(x[c]) / static_cast<double>(classes);
    const double row = std::fabs(lse.value) + std::fabs(x[label]) + attrs.label_smoothing * mean;
    loss_error += lse.error + unit * (4 * row + attrs.label_smoothing * static_cast<double>(classes + 2) * mean);
    magnitude += row;
  }
  const double weight = bound.has_out(2) ? bound.out[2][0] : 1;
  bound.error[0][0] = weight * (loss_error + unit * static_cast<double>(rows + 3) * magnitude);
  if (bound.has_out(2)) bound.error[2][0] = unit * weight;
}

// dloss weight (exp(x - lse) - target): the exponent's difference, exp, the targets, their difference and two products.
void bound_cross_entropy_grad(const Bound& bound) {
  const auto& attrs = std::get<CrossEntropyAttrs>(bound.node.attrs);
  const int64_t classes = bound.in_shape(0)[-1];
  const double factor = std::fabs(bound.in[3][0] * bound.in[4][0]);
  for (std::size_t e = 0; e < bound.error[0].size(); ++e) {
    const auto row = e / static_cast<std::size_t>(classes);
    const auto label = static_cast<int64_t>(bound.in[1][row]);
    if (label == attrs.ignore_index) continue;
    const double exponent = bound.in[0][e] - bound.in[2][row], p = std::exp(exponent);
    const bool hit = label == static_cast<int64_t>(e) % classes;
    const double target = (hit ? 1 : 0) + attrs.label_smoothing;
    bound.error[0][e] = unit * (factor * (p * (std::fabs(exponent) + 2) + 3 * target) + 4 * std::fabs(bound.out[0][e]));
  }
}

// Terms of at most 4 roundings (bce: of the size of x, x t and log 2), a sum, the mean's factor.
void bound_pair_loss(const Bound& bound) {
  const auto& attrs = std::get<PairLossAttrs>(bound.node.attrs);
  const Values &x = bound.in[0], &t = bound.in[1];
  double magnitude = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    switch (attrs.loss) {
      case PairLoss::mse:
        magnitude += (x[i] - t[i]) * (x[i] - t[i]);
        break;
      case PairLoss::l1:
        magnitude += std::fabs(x[i] - t[i]);
        break;
      case PairLoss::bce:
        magnitude += std::fabs(x[i]) + std::fabs(x[i] * t[i]) + 1;
        break;
    }
  }
  const double n = static_cast<double>(x.size());
  bound.error[0][0] = unit * (n + 6) * magnitude / (attrs.mean ? n : 1);
}

// dloss / n (two roundings) times a derivative: of mse and l1 two roundings, of bce a sigmoid (5 u) and a difference.
void bound_pair_loss_grad(const Bound& bound) {
  const auto& attrs = std::get<PairLossAttrs>(bound.node.attrs);
  const Values& x = bound.in[0];
  const double factor = std::fabs(bound.in[2][0]) / (attrs.mean ? static_cast<double>(x.size()) : 1);
  for (int y = 0; y < 2; ++y) {
    if (!bound.has_out(y)) continue;
    for (std::size_t i = 0; i < bound.out[y].size(); ++i) {
      const double sigmoid = attrs.loss == PairLoss::bce && y == 0 ? 1 / (1 + std::exp(-x[i])) : 0;
      bound.error[y][i] = unit * (5 * factor * sigmoid + 5 * std::fabs(bound.out[y][i]));
    }
  }
}

}  // namespace mpt::test
