// Softmax and the norms.
#include <algorithm>

#include "backend/ref/kernel.h"
#include "ops/tolerance_parts.h"

namespace mpt::test {

// exp(x - m) / sum: the exponents have errors of u |x - m|, exp 2 u more; the sum adds n u, the quotient 2 u (an
// inverse and a product). log_softmax = (x - m) - log(sum): those errors absolute, 2 u of the logarithm, and two
// differences.
void bound_softmax(const Bound& bound) {
  const auto& attrs = std::get<SoftmaxAttrs>(bound.node.attrs);
  const ref::AxisView view(bound.in_shape(0), attrs.axis);
  const Values &x = bound.in[0], &y = bound.out[0];
  for (int64_t o = 0; o < view.outer; ++o) {
    for (int64_t i = 0; i < view.inner; ++i) {
      double m = x[view.at(o, 0, i)], sum = 0, weighted = 0;
      for (int64_t a = 0; a < view.size; ++a) m = std::max(m, x[view.at(o, a, i)]);
      for (int64_t a = 0; a < view.size; ++a) {
        const double shifted = m - x[view.at(o, a, i)];
        sum += std::exp(-shifted);
        weighted += std::exp(-shifted) * shifted;
      }
      const double sum_error = weighted / sum + 2 + static_cast<double>(view.size);  // relative, in u
      for (int64_t a = 0; a < view.size; ++a) {
        const int64_t e = view.at(o, a, i);
        const double shifted = m - x[e];
        bound.error[0][e] = unit * (attrs.log ? shifted + sum_error + 2 * std::log(sum) + std::fabs(y[e])
                                              : y[e] * (shifted + 2 + sum_error + 2));
      }
    }
  }
}

// y (dy - s), s = sum(dy y); log: dy - exp(y) s, s = sum(dy).
void bound_softmax_grad(const Bound& bound) {
  const auto& attrs = std::get<SoftmaxAttrs>(bound.node.attrs);
  const ref::AxisView view(bound.in_shape(0), attrs.axis);
  const Values &y = bound.in[0], &dy = bound.in[1];
  const double n = static_cast<double>(view.size);
  for (int64_t o = 0; o < view.outer; ++o) {
    for (int64_t i = 0; i < view.inner; ++i) {
      double s = 0, magnitude = 0;
      for (int64_t a = 0; a < view.size; ++a) {
        const int64_t e = view.at(o, a, i);
        const double term = attrs.log ? dy[e] : dy[e] * y[e];
        s += term;
        magnitude += std::fabs(term);
      }
      const double s_error = (n + 1) * magnitude;
      for (int64_t a = 0; a < view.size; ++a) {
        const int64_t e = view.at(o, a, i);
        if (attrs.log) {
          const double p = std::exp(y[e]);
          bound.error[0][e] = unit * (p * (s_error + 3 * std::fabs(s)) + std::fabs(dy[e] - p * s));
        } else {
          bound.error[0][e] = unit * std::fabs(y[e]) * (s_error + 2 * std::fabs(dy[e] - s));
        }
      }
    }
  }
}

// mean: a sum of n terms and a quotient. x - mean: the mean's error and one rounding. variance: a sum of n squares,
// each with twice the error of x - mean. rstd: half the relative error of variance + epsilon, and 4 u (sum with
// epsilon, root, quotient). y: (x - mean) rstd weight + bias.
void bound_norm(const Bound& bound) {
  const auto& attrs = std::get<NormAttrs>(bound.node.attrs);
  const int64_t width = bound.in_shape(0)[-1];
  const double n = static_cast<double>(width);
  const auto rows = static_cast<int64_t>(bound.in[0].size()) / width;
  for (int64_t r = 0; r < rows; ++r) {
    // With a residual the norm is of the stored sum, whose own rounding is all that happens to it.
    const Values& source = bound.has_in(3) ? bound.out[3] : bound.in[0];
    const double* x = source.data() + r * width;
    double mean = 0, magnitude = 0, variance = 0, deviation = 0;
    for (int64_t i = 0; i < width; ++i) {
      mean += x[i] / n;
      magnitude += std::fabs(x[i]) / n;
    }
    if (attrs.rms) mean = magnitude = 0;
    const double mean_error = unit * (n + 1) * magnitude;
    for (int64_t i = 0; i < width; ++i) {
      variance += (x[i] - mean) * (x[i] - mean) / n;
      deviation += std::fabs(x[i] - mean) / n;
    }
    const double variance_error = unit * (n + 4) * variance + 2 * mean_error * deviation + mean_error * mean_error;
    const double rstd = 1 / std::sqrt(variance + attrs.epsilon);
    const double rstd_error = 0.5 * variance_error * rstd * rstd + 4 * unit;  // relative
    for (int64_t i = 0; i < width; ++i) {
      const int64_t e = r * width + i;
      const double weight = bound.has_in(1) ? std::fabs(bound.in[1][i]) : 1,
                   bias = bound.has_in(2) ? bound.in[2][i] : 0;
      bound.error[0][e] = weight * rstd * (mean_error + std::fabs(x[i] - mean) * (rstd_error + 4 * unit)) +
                          unit * (std::fabs(bound.out[0][e]) + std::fabs(bias));
      if (bound.has_in(3)) bound.error[3][e] = 0;
    }
    if (bound.has_out(1)) bound.error[1][r] = mean_error + unit * std::fabs(mean);
    if (bound.has_out(2)) bound.error[2][r] = rstd * rstd_error;
  }
}

// dx = rstd (g - mean(g) - h mean(g h)) + add with h = (x - mean) rstd (two roundings) and g = dy weight (one).
// dweight = sum over rows of dy h, dbias = sum of dy.
void bound_norm_grad(const Bound& bound) {
  const auto& attrs = std::get<NormAttrs>(bound.node.attrs);
  const int64_t width = bound.in_shape(0)[-1];
  const double n = static_cast<double>(width);
  const auto rows = static_cast<int64_t>(bound.in[0].size()) / width;
  const Values &x = bound.in[0], &rstd = bound.in[3], &dy = bound.in[4];
  Values weight_sums(static_cast<std::size_t>(width)), bias_sums(weight_sums);
  for (int64_t r = 0; r < rows; ++r) {
    const double mean = bound.has_in(2) ? bound.in[2][r] : 0;
    const auto h = [&](int64_t i) { return std::fabs((x[r * width + i] - mean) * rstd[r]); };
    const auto g = [&](int64_t i) { return std::fabs(dy[r * width + i] * (bound.has_in(1) ? bound.in[1][i] : 1)); };
    double mean_g = 0, mean_gh = 0;
    for (int64_t i = 0; i < width; ++i) {
      mean_g += g(i) / n;
      mean_gh += g(i) * h(i) / n;
      weight_sums[i] += std::fabs(dy[r * width + i]) * h(i);
      bias_sums[i] += std::fabs(dy[r * width + i]);
    }
    if (attrs.rms) mean_g = 0;
    for (int64_t i = 0; bound.has_out(0) && i < width; ++i) {
      const int64_t e = r * width + i;
      const double add = bound.has_in(5) ? std::fabs(bound.in[5][e]) : 0;
      bound.error[0][e] = unit * (rstd[r] * (5 * g(i) + (n + 6) * mean_g + (n + 11) * h(i) * mean_gh) + add);
    }
  }
  const double terms = static_cast<double>(rows);
  for (int64_t i = 0; i < width; ++i) {
    if (bound.has_out(1)) bound.error[1][i] = unit * (terms + 4) * weight_sums[i];
    if (bound.has_out(2)) bound.error[2][i] = unit * terms * bias_sums[i];
  }
}

}  // namespace mpt::test
