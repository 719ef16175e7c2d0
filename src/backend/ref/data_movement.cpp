// Reshape, transpose, slice, concat and pad: no arithmetic.
#include "backend/ref/kernels.h"

namespace mpt::ref {

std::unique_ptr<Kernel> prepare_reshape(const Graph& graph, const Node& node) {
  const auto run = [](const Launch& launch) {
    const Tensor x = launch.input(0), y = launch.output(0);
    for (int64_t i = 0; i < x.elements; ++i) y.set(i, x[i]);
  };
  return make_kernel(graph, node, run);
}

std::unique_ptr<Kernel> prepare_transpose(const Graph& graph, const Node& node) {
  const auto attrs = std::get<TransposeAttrs>(node.attrs);
  const auto run = [attrs](const Launch& launch) {
    const Tensor x = launch.input(0), y = launch.output(0);
    const Strides from = strides_of(x.shape);
    Strides permuted{};
    for (int axis = 0; axis < y.shape.rank(); ++axis) permuted[axis] = from[attrs.axes[axis]];
    Walk walk(y.shape);
    walk.add(permuted);
    for (int64_t e = 0; e < y.elements; ++e, walk.next()) y.set(e, x[walk.offset(0)]);
  };
  return make_kernel(graph, node, run);
}

std::unique_ptr<Kernel> prepare_slice(const Graph& graph, const Node& node) {
  const auto attrs = std::get<SliceAttrs>(node.attrs);
  const auto run = [attrs](const Launch& launch) {
    const Tensor x = launch.input(0), y = launch.output(0);
    const AxisView from(x.shape, attrs.axis), to(y.shape, attrs.axis);
    for (int64_t o = 0; o < to.outer; ++o) {
      for (int64_t a = 0; a < to.size; ++a) {
        for (int64_t i = 0; i < to.inner; ++i) y.set(to.at(o, a, i), x[from.at(o, attrs.begin + a, i)]);
      }
    }
  };
  return make_kernel(graph, node, run);
}

std::unique_ptr<Kernel> prepare_concat(const Graph& graph, const Node& node) {
  const int axis = std::get<AxisAttrs>(node.attrs).axis;
  const int inputs = static_cast<int>(node.inputs.size());
  const auto run = [axis, inputs](const Launch& launch) {
    const Tensor y = launch.output(0);
    const AxisView to(y.shape, axis);
    int64_t begin = 0;
    for (int n = 0; n < inputs; ++n) {
      const Tensor x = launch.input(n);
      const AxisView from(x.shape, axis);
      for (int64_t o = 0; o < from.outer; ++o) {
        for (int64_t a = 0; a < from.size; ++a) {
          for (int64_t i = 0; i < from.inner; ++i) y.set(to.at(o, begin + a, i), x[from.at(o, a, i)]);
        }
      }
      begin += from.size;
    }
  };
  return make_kernel(graph, node, run);
}

std::unique_ptr<Kernel> prepare_pad(const Graph& graph, const Node& node) {
  const auto attrs = std::get<PadAttrs>(node.attrs);
  const auto run = [attrs](const Launch& launch) {
    const Tensor x = launch.input(0), y = launch.output(0);
    const AxisView from(x.shape, attrs.axis), to(y.shape, attrs.axis);
    for (int64_t o = 0; o < to.outer; ++o) {
      for (int64_t a = 0; a < to.size; ++a) {
        const int64_t source = a - attrs.before;
        const bool inside = source >= 0 && source < from.size;
        for (int64_t i = 0; i < to.inner; ++i) {
          y.set(to.at(o, a, i), inside ? x[from.at(o, source, i)] : attrs.value);
        }
      }
    }
  };
  return make_kernel(graph, node, run);
}

}  // namespace mpt::ref
