// Constant elements at both ends of one axis; its gradient is a slice.
#include "ops/op.h"

namespace mpt {
namespace {

std::vector<OutputInfo> infer(const Graph& graph, Node& node) {
  auto& attrs = std::get<PadAttrs>(node.attrs);
  const Value& x = graph.value(node.inputs[0]);
  attrs.axis = normalize_axis(attrs.axis, x.shape.rank(), "pad");
  if (attrs.before < 0 || attrs.after < 0)
    shape_error(graph, node, "the amounts %lld and %lld must not be negative", static_cast<long long>(attrs.before),
                static_cast<long long>(attrs.after));
  Shape shape = x.shape;
  const int64_t size = shape[attrs.axis], more = attrs.before + attrs.after;
  shape[attrs.axis] =
      size >= 0 || more == 0 ? size + more : graph.dims->derived(graph.dims->name(size) + "+" + std::to_string(more));
  return {OutputInfo{shape, x.dtype, x.narrow}};
}

void gradient(GradientContext& context, const Node& node) {
  if (!context.wants(0)) return;
  const auto& attrs = std::get<PadAttrs>(node.attrs);
  const int64_t size = context.graph().shape(node.inputs[0])[attrs.axis];
  const SliceAttrs slice{attrs.axis, attrs.before, attrs.before + size};
  context.add(0, context.graph().apply(OpKind::slice, "", slice, {context.output_gradient(0)}));
}

Cost cost(const Graph& graph, const Node& node) { return {0, bytes_of(graph, node)}; }

}  // namespace

const OpDef pad_def{"pad", OpClass::shape, infer, gradient, cost, nullptr};

}  // namespace mpt
