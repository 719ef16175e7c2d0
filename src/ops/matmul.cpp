// Matrix multiply, batched, either side transposed, with a fused element-wise epilogue.
#include <algorithm>

#include "ops/op.h"

namespace mpt {
namespace {

struct Sizes {
  int64_t m, n, k;
  Shape batch;  // broadcast leading axes
};

Sizes sizes_of(const Graph& graph, const Node& node) {
  const auto& attrs = std::get<MatmulAttrs>(node.attrs);
  const Shape &a = graph.shape(node.inputs[0]), &b = graph.shape(node.inputs[1]);
  Sizes s;
  s.m = attrs.transpose_a ? a[-1] : a[-2];
  s.n = attrs.transpose_b ? b[-2] : b[-1];
  const int64_t ka = attrs.transpose_a ? a[-2] : a[-1], kb = attrs.transpose_b ? b[-1] : b[-2];
  if (!unify(ka, kb, &s.k))
    shape_error(graph, node, "the inner sizes are %lld and %lld, expected equal ones", static_cast<long long>(ka),
                static_cast<long long>(kb));
  if (!broadcast_named(Shape(a.rank() - 2, a.begin()), Shape(b.rank() - 2, b.begin()), &s.batch))
    shape_error(graph, node, "the leading axes don't broadcast");
  return s;
}

std::vector<OutputInfo> infer(const Graph& graph, Node& node) {
  for (int i = 0; i < 2; ++i) {
    require_float(graph, node, i);
    require_rank(graph, node, i, 2);
  }
  const Sizes s = sizes_of(graph, node);
  Shape shape = s.batch;
  shape.push_back(s.m);
  shape.push_back(s.n);
  const auto& epilogue = std::get<MatmulAttrs>(node.attrs).epilogue;
  return std::vector<OutputInfo>(std::max<std::size_t>(epilogue.outputs.size(), 1), OutputInfo{shape});
}

void gradient(GradientContext& context, const Node& node) {
  const auto attrs = std::get<MatmulAttrs>(node.attrs);
  MPT_INVARIANT(attrs.epilogue.outputs.empty());  // fused after differentiation
  Graph& graph = context.graph();
  const ValueId a = node.inputs[0], b = node.inputs[1], dc = context.output_gradient(0);
  const Shape a_shape = graph.shape(a), b_shape = graph.shape(b);
  const bool ta = attrs.transpose_a, tb = attrs.transpose_b;

  if (context.wants(0)) {
    const ValueId da = ta ? matmul(graph, b, dc, tb, true) : matmul(graph, dc, b, false, !tb);
    context.add(0, reduce_to(graph, da, a_shape));
  }
  if (!context.wants(1)) return;
  if (b_shape.rank() == 2 && a_shape.rank() > 2 && !ta) {
    // One weight for all leading axes: a single product over all rows instead of a sum of many.
    const Shape dc_shape = graph.shape(dc);
    int64_t rows = 1;
    for (int i = 0; i < a_shape.rank() - 1; ++i) rows *= a_shape[i];
    const ValueId a2 = reshape_to(graph, a, Shape{rows, a_shape[-1]});
    const ValueId dc2 = reshape_to(graph, dc, Shape{rows, dc_shape[-1]});
    context.add(1, tb ? matmul(graph, dc2, a2, true, false) : matmul(graph, a2, dc2, true, false));
    return;
  }
  const ValueId db = tb ? matmul(graph, dc, a, true, ta) : matmul(graph, a, dc, !ta, false);
  context.add(1, reduce_to(graph, db, b_shape));
}

Cost cost(const Graph& graph, const Node& node) {
  const Sizes s = sizes_of(graph, node);
  const auto& epilogue = std::get<MatmulAttrs>(node.attrs).epilogue;
  const double out = elements(graph, node.outputs[0]);
  return {out * (2.0 * static_cast<double>(s.k) + static_cast<double>(epilogue.steps.size())), bytes_of(graph, node)};
}

// The epilogue reads a row segment of its inputs before it writes that of its outputs; a and b are read by others still.
bool in_place(const Graph& graph, const Node& node, int input, int output) {
  return input >= 2 && graph.shape(node.inputs[input]) == graph.shape(node.outputs[output]);
}

}  // namespace

const OpDef matmul_def{"matmul", OpClass::matmul, infer, gradient, cost, in_place};

}  // namespace mpt
