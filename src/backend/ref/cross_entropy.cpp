// Softmax cross-entropy over class indices, with label smoothing and an ignored label.
#include <cmath>
#include <limits>

#include "backend/ref/kernels.h"

namespace mpt::ref {

namespace {

// The share of class c in a row's target distribution.
double target(const CrossEntropyAttrs& attrs, int64_t c, int64_t label, int64_t classes) {
  const double uniform = attrs.label_smoothing / static_cast<double>(classes);
  return c == label ? 1 - attrs.label_smoothing + uniform : uniform;
}

}  // namespace

std::unique_ptr<Kernel> prepare_cross_entropy(const Graph& graph, const Node& node) {
  const auto attrs = std::get<CrossEntropyAttrs>(node.attrs);
  const auto run = [attrs](const Launch& launch) {
    const Tensor logits = launch.input(0), labels = launch.input(1);
    const Tensor loss = launch.output(0), logsumexp = launch.output(1), weight = launch.output(2);
    const int64_t classes = logits.shape[-1];
    double sum = 0;
    int64_t counted = 0;
    for (int64_t r = 0; r < labels.elements; ++r) {
      double maximum = -std::numeric_limits<double>::infinity(), exponentials = 0;
      for (int64_t c = 0; c < classes; ++c) maximum = std::fmax(maximum, logits[r * classes + c]);
      for (int64_t c = 0; c < classes; ++c) exponentials += std::exp(logits[r * classes + c] - maximum);
      const double lse = maximum + std::log(exponentials);
      if (logsumexp) logsumexp.set(r, lse);

      const auto label = static_cast<int64_t>(labels[r]);
      if (label == attrs.ignore_index) continue;
      ++counted;
      for (int64_t c = 0; c < classes; ++c) {
        const double share = target(attrs, c, label, classes);
        if (share != 0) sum += share * (lse - logits[r * classes + c]);
      }
    }
    const double factor = !attrs.mean ? 1 : counted == 0 ? 0 : 1 / static_cast<double>(counted);
    loss.set(0, sum * factor);
    if (weight) weight.set(0, factor);
  };
  return make_kernel(graph, node, run);
}

std::unique_ptr<Kernel> prepare_cross_entropy_grad(const Graph& graph, const Node& node) {
  const auto attrs = std::get<CrossEntropyAttrs>(node.attrs);
  const auto run = [attrs](const Launch& launch) {
    const Tensor logits = launch.input(0), labels = launch.input(1), logsumexp = launch.input(2);
    const Tensor weight = launch.input(3), dloss = launch.input(4), dlogits = launch.output(0);
    const int64_t classes = logits.shape[-1];
    for (int64_t r = 0; r < labels.elements; ++r) {
      const auto label = static_cast<int64_t>(labels[r]);
      for (int64_t c = 0; c < classes; ++c) {
        const int64_t e = r * classes + c;
        const double difference = std::exp(logits[e] - logsumexp[r]) - target(attrs, c, label, classes);
        dlogits.set(e, label == attrs.ignore_index ? 0 : dloss[0] * weight[0] * difference);
      }
    }
  };
  return make_kernel(graph, node, run);
}

}  // namespace mpt::ref
