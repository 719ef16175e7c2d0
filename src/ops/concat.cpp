// Tensors side by side along one axis.
#include "ops/op.h"

namespace mpt {
namespace {

std::vector<OutputInfo> infer(const Graph& graph, Node& node) {
  auto& attrs = std::get<AxisAttrs>(node.attrs);
  const Value& first = graph.value(node.inputs[0]);
  attrs.axis = normalize_axis(attrs.axis, first.shape.rank(), "concat");
  Shape shape = first.shape;
  int64_t known = 0;
  std::string named;
  bool narrow = false;
  for (ValueId id : node.inputs) {
    const Value& x = graph.value(id);
    if (x.dtype != first.dtype) shape_error(graph, node, "the dtypes differ");
    narrow = narrow || x.narrow;
    Shape other = x.shape;
    if (other.rank() == shape.rank()) {
      const int64_t size = other[attrs.axis];
      size >= 0 ? void(known += size) : void(named += graph.dims->name(size) + "+");
      other[attrs.axis] = shape[attrs.axis];
    }
    if (!unify(shape, other, &shape)) shape_error(graph, node, "only the sizes on axis %d may differ", attrs.axis);
  }
  shape[attrs.axis] = named.empty() ? known : graph.dims->derived(named + std::to_string(known));
  return {OutputInfo{shape, first.dtype, narrow}};
}

void gradient(GradientContext& context, const Node& node) {
  const int axis = std::get<AxisAttrs>(node.attrs).axis;
  Graph& graph = context.graph();
  int64_t begin = 0;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const int64_t size = graph.shape(node.inputs[i])[axis];
    if (context.wants(static_cast<int>(i)))
      context.add(static_cast<int>(i),
                  graph.apply(OpKind::slice, "", SliceAttrs{axis, begin, begin + size}, {context.output_gradient(0)}));
    begin += size;
  }
}

Cost cost(const Graph& graph, const Node& node) { return {0, bytes_of(graph, node)}; }

}  // namespace

const OpDef concat_def{"concat", OpClass::shape, infer, gradient, cost, nullptr};

}  // namespace mpt
