// Layer norm and RMS norm over the last axis.
#include <cmath>

#include "backend/ref/kernels.h"

namespace mpt::ref {

std::unique_ptr<Kernel> prepare_norm(const Graph& graph, const Node& node) {
  const auto attrs = std::get<NormAttrs>(node.attrs);
  const int64_t width = graph.shape(node.inputs.at(0))[-1];
  const auto run = [attrs, width](const Launch& launch) {
    const Tensor x = launch.input(0), weight = launch.input(1), bias = launch.input(2), residual = launch.input(3);
    const Tensor y = launch.output(0), mean = launch.output(1), rstd = launch.output(2), sum = launch.output(3);
    double* row = launch.scratch();
    for (int64_t r = 0; r < x.elements / width; ++r) {
      for (int64_t i = 0; i < width; ++i) {
        const int64_t e = r * width + i;
        row[i] = x[e];
        if (residual) {
          row[i] = round_to(sum.dtype, x[e] + residual[e]);  // the norm is of the stored sum
          sum.set(e, row[i]);
        }
      }
      double m = 0, variance = 0;
      if (!attrs.rms) {
        for (int64_t i = 0; i < width; ++i) m += row[i];
        m /= static_cast<double>(width);
      }
      for (int64_t i = 0; i < width; ++i) variance += (row[i] - m) * (row[i] - m);
      variance /= static_cast<double>(width);
      const double s = 1 / std::sqrt(variance + attrs.epsilon);
      for (int64_t i = 0; i < width; ++i) {
        y.set(r * width + i, (row[i] - m) * s * (weight ? weight[i] : 1) + (bias ? bias[i] : 0));
      }
      if (mean) mean.set(r, m);
      if (rstd) rstd.set(r, s);
    }
  };
  return make_kernel(graph, node, run, doubles(width));
}

std::unique_ptr<Kernel> prepare_norm_grad(const Graph& graph, const Node& node) {
  const auto attrs = std::get<NormAttrs>(node.attrs);
  const int64_t width = graph.shape(node.inputs.at(0))[-1];
  const auto run = [attrs, width](const Launch& launch) {
    const Tensor x = launch.input(0), weight = launch.input(1), mean = launch.input(2), rstd = launch.input(3);
    const Tensor dy = launch.input(4), add = launch.input(5);
    const Tensor dx = launch.output(0), dweight = launch.output(1), dbias = launch.output(2);
    double* normed = launch.scratch();
    double* g = normed + width;
    double* weight_sums = g + width;
    double* bias_sums = weight_sums + width;
    for (int64_t i = 0; i < width; ++i) weight_sums[i] = bias_sums[i] = 0;

    for (int64_t r = 0; r < x.elements / width; ++r) {
      double mean_g = 0, mean_g_normed = 0;
      for (int64_t i = 0; i < width; ++i) {
        const int64_t e = r * width + i;
        normed[i] = (x[e] - (mean ? mean[r] : 0)) * rstd[r];
        g[i] = dy[e] * (weight ? weight[i] : 1);
        mean_g += g[i];
        mean_g_normed += g[i] * normed[i];
        weight_sums[i] += dy[e] * normed[i];
        bias_sums[i] += dy[e];
      }
      mean_g = attrs.rms ? 0 : mean_g / static_cast<double>(width);
      mean_g_normed /= static_cast<double>(width);
      for (int64_t i = 0; dx && i < width; ++i) {
        const int64_t e = r * width + i;
        dx.set(e, rstd[r] * (g[i] - mean_g - normed[i] * mean_g_normed) + (add ? add[e] : 0));
      }
    }
    for (int64_t i = 0; i < width; ++i) {
      if (dweight) dweight.set(i, weight_sums[i]);
      if (dbias) dbias.set(i, bias_sums[i]);
    }
  };
  return make_kernel(graph, node, run, doubles(4 * width));
}

}  // namespace mpt::ref
