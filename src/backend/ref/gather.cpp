// Picks along an axis: y[.., i.., ..] = x[.., indices[i..], ..].
#include "backend/ref/kernels.h"

namespace mpt::ref {

namespace {

int64_t index_at(const Tensor& indices, int64_t i, int64_t size) {
  const auto index = static_cast<int64_t>(indices[i]);
  MPT_CHECK_ARGUMENT(index >= 0 && index < size, "gather: index %lld at position %lld is outside [0, %lld)",
                     static_cast<long long>(index), static_cast<long long>(i), static_cast<long long>(size));
  return index;
}

}  // namespace

std::unique_ptr<Kernel> prepare_gather(const Graph& graph, const Node& node) {
  const int axis = std::get<GatherAttrs>(node.attrs).axis;
  const auto run = [axis](const Launch& launch) {
    const Tensor x = launch.input(0), indices = launch.input(1), y = launch.output(0);
    const AxisView from(x.shape, axis);
    const AxisView to(y.shape, axis, axis + indices.shape.rank());
    for (int64_t o = 0; o < to.outer; ++o) {
      for (int64_t a = 0; a < indices.elements; ++a) {
        const int64_t index = index_at(indices, a, from.size);
        for (int64_t i = 0; i < to.inner; ++i) y.set(to.at(o, a, i), x[from.at(o, index, i)]);
      }
    }
  };
  return make_kernel(graph, node, run);
}

// Each element of x receives the sum of all gradients that were picked from it.
std::unique_ptr<Kernel> prepare_gather_grad(const Graph& graph, const Node& node) {
  const auto attrs = std::get<GatherAttrs>(node.attrs);
  const auto run = [attrs](const Launch& launch) {
    const Tensor dy = launch.input(0), indices = launch.input(1), dx = launch.output(0);
    const AxisView to(dx.shape, attrs.axis);
    const AxisView from(dy.shape, attrs.axis, attrs.axis + indices.shape.rank());
    double* sums = launch.scratch();
    for (int64_t e = 0; e < dx.elements; ++e) sums[e] = 0;
    for (int64_t o = 0; o < from.outer; ++o) {
      for (int64_t a = 0; a < indices.elements; ++a) {
        const int64_t index = index_at(indices, a, to.size);
        for (int64_t i = 0; i < from.inner; ++i) sums[to.at(o, index, i)] += dy[from.at(o, a, i)];
      }
    }
    for (int64_t e = 0; e < dx.elements; ++e) dx.set(e, sums[e]);
  };
  return make_kernel(graph, node, run, doubles(graph.shape(node.outputs.at(0)).elements()));
}

}  // namespace mpt::ref
