// Scaled dot-product attention of several heads; the scores are never stored whole.
#include "ops/op.h"

namespace mpt {
namespace {

enum Input { q_in, k_in, v_in, mask_in, lengths_in };

struct Sizes {
  int64_t batch, queries, keys, head_size;
};

Sizes sizes_of(const Graph& graph, const Node& node) {
  const auto& attrs = std::get<AttentionAttrs>(node.attrs);
  const Shape& q = graph.shape(node.inputs[q_in]);
  const int64_t columns = attrs.packed ? attrs.heads + 2 * attrs.kv_heads : attrs.heads;
  const int64_t keys = attrs.packed ? q[1] : graph.shape(node.inputs[k_in])[1];
  return {q[0], q[1], keys, q[2] / columns};
}

void check_projection(const Graph& graph, const Node& node, int input, int64_t columns, int64_t head_size) {
  require_float(graph, node, input);
  const Shape& shape = graph.shape(node.inputs[input]);
  int64_t batch;
  if (shape.rank() != 3 || shape[2] != columns * head_size ||
      !unify(shape[0], graph.shape(node.inputs[q_in])[0], &batch))
    shape_error(graph, node, "input %d: expected [batch, length, %lld] for %lld heads of size %lld", input,
                static_cast<long long>(columns * head_size), static_cast<long long>(columns),
                static_cast<long long>(head_size));
}

std::vector<OutputInfo> infer(const Graph& graph, Node& node) {
  const auto& attrs = std::get<AttentionAttrs>(node.attrs);
  node.inputs.resize(5, none);
  require_float(graph, node, q_in);
  const Shape& q = graph.shape(node.inputs[q_in]);
  if (q.rank() != 3) shape_error(graph, node, "expected [batch, length, heads * head size]");
  if (attrs.heads < 1 || attrs.kv_heads < 1 || attrs.heads % attrs.kv_heads != 0)
    shape_error(graph, node, "%d heads and %d heads of keys and values: the first must be a multiple", attrs.heads,
                attrs.kv_heads);
  const int64_t columns = attrs.packed ? attrs.heads + 2 * attrs.kv_heads : attrs.heads;
  if (q[2] < 1 || q[2] % columns != 0)
    shape_error(graph, node, "the last size %lld is not a multiple of %lld heads", static_cast<long long>(q[2]),
                static_cast<long long>(columns));
  const Sizes s = sizes_of(graph, node);
  if (!attrs.packed) {
    check_projection(graph, node, k_in, attrs.kv_heads, s.head_size);
    check_projection(graph, node, v_in, attrs.kv_heads, s.head_size);
    int64_t keys;
    if (!unify(graph.shape(node.inputs[k_in])[1], graph.shape(node.inputs[v_in])[1], &keys))
      shape_error(graph, node, "keys and values differ in length");
  }
  int64_t length;
  if (attrs.causal && !unify(s.queries, s.keys, &length))
    shape_error(graph, node, "causal attention needs as many queries as keys");
  if (node.inputs[mask_in] != none) {
    require_dtype(graph, node, mask_in, DType::u8);
    const Shape& mask = graph.shape(node.inputs[mask_in]);
    const Shape full{s.batch, attrs.heads, s.queries, s.keys};
    Shape expected;
    if (mask.rank() == 2)
      expected = Shape{s.queries, s.keys};
    else if (mask.rank() == 3)
      expected = Shape{s.batch, s.queries, s.keys};
    else
      expected = full;
    Shape common;
    if (!unify(mask, expected, &common))
      shape_error(graph, node,
                  "the mask must be [queries, keys], [batch, queries, keys] or [batch, heads, queries, keys]");
  }
  if (node.inputs[lengths_in] != none) {
    require_dtype(graph, node, lengths_in, DType::i32);
    const Shape& lengths = graph.shape(node.inputs[lengths_in]);
    int64_t batch;
    if (lengths.rank() != 1 || !unify(lengths[0], s.batch, &batch))
      shape_error(graph, node, "key lengths must be [batch]");
  }
  return {OutputInfo{Shape{s.batch, s.queries, attrs.heads * s.head_size}},
          OutputInfo{Shape{s.batch, attrs.heads, s.queries}, DType::f32, false}};
}

void gradient(GradientContext& context, const Node& node) {
  const auto attrs = std::get<AttentionAttrs>(node.attrs);
  const int count = attrs.packed ? 1 : 3;
  bool wanted = false;
  for (int i = 0; i < count; ++i) wanted = wanted || context.wants(i);
  if (!wanted) return;
  Graph& graph = context.graph();
  std::vector<ValueId> inputs = node.inputs;
  inputs.insert(inputs.end(), {node.outputs[0], node.outputs[1], context.output_gradient(0)});
  const NodeId id = graph.add(OpKind::attention_grad, "", attrs, inputs);
  for (int i = 0; i < count; ++i)
    if (context.wants(i)) context.add(i, graph.node(id).outputs[i]);
}

// Two products forward, five backward; a causal mask skips half of them.
double products(const Graph& graph, const Node& node, double count) {
  const auto& attrs = std::get<AttentionAttrs>(node.attrs);
  const Sizes s = sizes_of(graph, node);
  return count * 2.0 * static_cast<double>(s.batch) * attrs.heads * static_cast<double>(s.queries) *
         static_cast<double>(s.keys) * static_cast<double>(s.head_size) * (attrs.causal ? 0.5 : 1.0);
}

Cost cost(const Graph& graph, const Node& node) { return {products(graph, node, 2), bytes_of(graph, node)}; }
Cost cost_grad(const Graph& graph, const Node& node) { return {products(graph, node, 5), bytes_of(graph, node)}; }

std::vector<OutputInfo> infer_grad(const Graph& graph, Node& node) {
  const auto& attrs = std::get<AttentionAttrs>(node.attrs);
  if (attrs.packed) return {OutputInfo{graph.shape(node.inputs[q_in])}};
  return {OutputInfo{graph.shape(node.inputs[q_in])}, OutputInfo{graph.shape(node.inputs[k_in])},
          OutputInfo{graph.shape(node.inputs[v_in])}};
}

}  // namespace

const OpDef attention_def{"attention", OpClass::matmul, infer, gradient, cost, nullptr};
const OpDef attention_grad_def{"attention_grad", OpClass::matmul, infer_grad, nullptr, cost_grad, nullptr};

}  // namespace mpt
