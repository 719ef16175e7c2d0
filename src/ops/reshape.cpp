// A new shape over the same memory.
#include <algorithm>

#include "ops/op.h"

namespace mpt {
namespace {

// The size at rest_axis. Named dimensions that stand on both sides cancel; what is left of them makes the rest a size that is
// known later.
int64_t rest_of(const Graph& graph, const Node& node, const Shape& x, const ReshapeAttrs& attrs) {
  int64_t known_x = 1, known_y = 1;
  std::vector<int64_t> named_x, named_y;
  for (int64_t size : x) size < 0 ? named_x.push_back(size) : void(known_x *= size);
  for (int i = 0; i < attrs.shape.rank(); ++i) {
    if (i == attrs.rest_axis) continue;
    const int64_t size = attrs.shape[i];
    const auto same = std::find(named_x.begin(), named_x.end(), size);
    if (size >= 0)
      known_y *= size;
    else if (same != named_x.end())
      named_x.erase(same);
    else
      named_y.push_back(size);
  }
  if (named_x.empty() && named_y.empty()) {
    if (known_y == 0 || known_x % known_y != 0)
      shape_error(graph, node, "%lld elements can't be shaped to %s", static_cast<long long>(known_x),
                  attrs.shape.text().c_str());
    return known_x / known_y;
  }
  if (named_y.empty() && named_x.size() == 1 && known_x == known_y) return named_x[0];
  std::string description = std::to_string(known_x) + "/" + std::to_string(known_y);
  for (int64_t id : named_x) description += "*" + graph.dims->name(id);
  for (int64_t id : named_y) description += "/" + graph.dims->name(id);
  return graph.dims->derived(description);
}

std::vector<OutputInfo> infer(const Graph& graph, Node& node) {
  const auto& attrs = std::get<ReshapeAttrs>(node.attrs);
  const Value& x = graph.value(node.inputs[0]);
  Shape shape = attrs.shape;
  if (attrs.rest_axis >= 0) shape[attrs.rest_axis] = rest_of(graph, node, x.shape, attrs);
  if (shape.is_known() && x.shape.is_known() && shape.elements() != x.shape.elements())
    shape_error(graph, node, "%lld elements can't be shaped to %s", static_cast<long long>(x.shape.elements()),
                shape.text().c_str());
  return {OutputInfo{shape, x.dtype, x.narrow}};
}

void gradient(GradientContext& context, const Node& node) {
  if (!context.wants(0)) return;
  const Shape shape = context.graph().shape(node.inputs[0]);
  context.add(0, reshape_to(context.graph(), context.output_gradient(0), shape));
}

Cost cost(const Graph&, const Node&) { return {}; }

bool in_place(const Graph&, const Node&, int, int) { return true; }

}  // namespace

const OpDef reshape_def{"reshape", OpClass::shape, infer, gradient, cost, in_place};

}  // namespace mpt
