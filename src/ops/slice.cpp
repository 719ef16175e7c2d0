// A range along one axis; its gradient is padding with zeros.
#include "ops/op.h"

namespace mpt {
namespace {

std::vector<OutputInfo> infer(const Graph& graph, Node& node) {
  auto& attrs = std::get<SliceAttrs>(node.attrs);
  const Value& x = graph.value(node.inputs[0]);
  attrs.axis = normalize_axis(attrs.axis, x.shape.rank(), "slice");
  const int64_t size = x.shape[attrs.axis];
  if (size < 0 && (attrs.begin < 0 || attrs.end < 0))
    shape_error(graph, node, "positions from the end need a known size on axis %d", attrs.axis);
  if (attrs.begin < 0) attrs.begin += size;
  if (attrs.end < 0) attrs.end += size;
  if (attrs.begin < 0 || attrs.end < attrs.begin || (size >= 0 && attrs.end > size))
    shape_error(graph, node, "the range [%lld, %lld) is not inside axis %d of size %lld",
                static_cast<long long>(attrs.begin), static_cast<long long>(attrs.end), attrs.axis,
                static_cast<long long>(size));
  Shape shape = x.shape;
  shape[attrs.axis] = attrs.end - attrs.begin;
  return {OutputInfo{shape, x.dtype, x.narrow}};
}

void gradient(GradientContext& context, const Node& node) {
  if (!context.wants(0)) return;
  const auto& attrs = std::get<SliceAttrs>(node.attrs);
  const int64_t size = context.graph().shape(node.inputs[0])[attrs.axis];
  const PadAttrs pad{attrs.axis, attrs.begin, size - attrs.end, 0};
  context.add(0, context.graph().apply(OpKind::pad, "", pad, {context.output_gradient(0)}));
}

Cost cost(const Graph& graph, const Node& node) { return {0, 2 * bytes_of(graph, node)}; }

}  // namespace

const OpDef slice_def{"slice", OpClass::shape, infer, gradient, cost, nullptr};

}  // namespace mpt
