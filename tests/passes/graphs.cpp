#include "passes/graphs.h"

#include <algorithm>
#include <random>

#include "passes/autodiff.h"
#include "passes/order.h"

namespace mpt::test {

namespace {

Program one_step(Ewise op, float p, uint32_t stream_id = 0) {
  const int inputs = has_two_operands(op) ? 2 : 1;
  return Program{
      inputs, {{op, 0, static_cast<int16_t>(inputs == 2 ? 1 : -1), p, 0, stream_id}}, {static_cast<int16_t>(inputs)}};
}

}  // namespace

ValueId GraphBuilder::input(const std::string& name, const Shape& shape, DType dtype) {
  Value v;
  v.name = name;
  v.shape = shape;
  v.dtype = dtype;
  v.narrow = dtype == DType::f32;
  v.role = Role::input;
  v.slot = static_cast<int32_t>(graph.inputs.size());
  const ValueId id = graph.add_value(v);
  graph.inputs.push_back({id, dtype, {}, {}, 0});
  return id;
}

ValueId GraphBuilder::parameter(const std::string& name, const Shape& shape, bool keep_fp32) {
  Value v;
  v.name = name;
  v.shape = shape;
  v.narrow = !keep_fp32;
  v.role = Role::parameter;
  v.slot = static_cast<int32_t>(graph.parameters.size());
  const ValueId id = graph.add_value(v);
  ParameterInfo info;
  info.value = id;
  info.name = name;
  info.shape = shape;
  info.keep_fp32 = keep_fp32;
  graph.parameters.push_back(info);
  return id;
}

ValueId GraphBuilder::ewise(Ewise op, ValueId a, float p, const std::string& name) {
  return graph.apply(OpKind::elementwise, name, ElementwiseAttrs{one_step(op, p), {}}, {a});
}

ValueId GraphBuilder::ewise2(Ewise op, ValueId a, ValueId b, const std::string& name) {
  return graph.apply(OpKind::elementwise, name, ElementwiseAttrs{one_step(op, 0), {}}, {a, b});
}

ValueId GraphBuilder::dropout(ValueId x, float rate) {
  return graph.apply(OpKind::elementwise, "", ElementwiseAttrs{one_step(Ewise::dropout, rate, ++streams_), {}}, {x});
}

ValueId GraphBuilder::matmul(ValueId a, ValueId b, bool transpose_a, bool transpose_b, const std::string& name) {
  return graph.apply(OpKind::matmul, name, MatmulAttrs{transpose_a, transpose_b, {}}, {a, b});
}

ValueId GraphBuilder::linear(const std::string& name, ValueId x, int64_t out) {
  const ValueId weight = parameter(name + ".weight", Shape{out, graph.shape(x)[-1]});
  const ValueId bias = parameter(name + ".bias", Shape{out});
  return ewise2(Ewise::add, matmul(x, weight, false, true, name), bias, name + ".add");
}

ValueId GraphBuilder::layer_norm(const std::string& name, ValueId x) {
  const Shape features{graph.shape(x)[-1]};
  const ValueId weight = parameter(name + ".weight", features, true), bias = parameter(name + ".bias", features, true);
  return graph.apply(OpKind::norm, name, NormAttrs{}, {x, weight, bias});
}

ValueId GraphBuilder::reshape(ValueId x, const Shape& shape) {
  return graph.apply(OpKind::reshape, "", ReshapeAttrs{shape, -1}, {x});
}

ValueId GraphBuilder::transpose(ValueId x, const std::vector<int>& axes) {
  return graph.apply(OpKind::transpose, "", TransposeAttrs{axes}, {x});
}

ValueId GraphBuilder::slice(ValueId x, int axis, int64_t begin, int64_t end) {
  return graph.apply(OpKind::slice, "", SliceAttrs{axis, begin, end}, {x});
}

ValueId GraphBuilder::gather(ValueId x, ValueId indices) {
  return graph.apply(OpKind::gather, "", GatherAttrs{}, {x, indices});
}

ValueId GraphBuilder::attention(ValueId q, ValueId k, ValueId v, int heads) {
  AttentionAttrs attrs;
  attrs.heads = attrs.kv_heads = heads;
  attrs.causal = true;
  attrs.scale = 0.5;
  return graph.apply(OpKind::attention, "", attrs, {q, k, v});
}

ValueId GraphBuilder::cross_entropy(ValueId logits, ValueId labels) {
  return graph.apply(OpKind::cross_entropy, "loss", CrossEntropyAttrs{}, {logits, labels});
}

ValueId GraphBuilder::mean(ValueId x) {
  ReduceAttrs attrs;
  attrs.reduction = Reduction::mean;
  for (int i = 0; i < graph.shape(x).rank(); ++i) attrs.axes.push_back(i);
  return graph.apply(OpKind::reduce, "loss", attrs, {x});
}

Network gpt(const GptSizes& s) {
  GraphBuilder b;
  const ValueId tokens = b.input("tokens", Shape{s.batch, s.length}, DType::i32);
  const ValueId labels = b.input("labels", Shape{s.batch, s.length}, DType::i32);
  const ValueId table = b.parameter("embedding", Shape{s.vocabulary, s.width});
  const ValueId positions = b.parameter("positions", Shape{s.length, s.width});
  ValueId x = b.ewise2(Ewise::add, b.gather(table, tokens), positions);
  for (int64_t i = 0; i < s.layers; ++i) {
    const std::string block = "block" + std::to_string(i);
    const ValueId qkv = b.linear(block + ".qkv", b.layer_norm(block + ".norm1", x), 3 * s.width);
    ValueId parts[3];
    for (int p = 0; p < 3; ++p) parts[p] = b.slice(qkv, 2, p * s.width, (p + 1) * s.width);
    const ValueId attended = b.attention(parts[0], parts[1], parts[2], static_cast<int>(s.heads));
    x = b.ewise2(Ewise::add, x, b.dropout(b.linear(block + ".out", attended, s.width), s.dropout));
    const ValueId h = b.linear(block + ".up", b.layer_norm(block + ".norm2", x), 4 * s.width);
    const ValueId y = b.linear(block + ".down", b.ewise(Ewise::gelu_tanh, h), s.width);
    x = b.ewise2(Ewise::add, x, b.dropout(y, s.dropout));
  }
  const ValueId logits = b.linear("head", b.layer_norm("norm", x), s.vocabulary);
  const ValueId loss = b.cross_entropy(logits, labels);
  return {std::move(b.graph), loss};
}

Network mlp(int64_t batch, const std::vector<int64_t>& widths, Ewise activation) {
  GraphBuilder b;
  ValueId x = b.input("x", Shape{batch, widths[0]});
  const ValueId labels = b.input("labels", Shape{batch}, DType::i32);
  for (std::size_t i = 1; i < widths.size(); ++i) {
    x = b.linear("fc" + std::to_string(i), x, widths[i]);
    if (i + 1 < widths.size()) x = b.ewise(activation, x);
  }
  const ValueId loss = b.cross_entropy(x, labels);
  return {std::move(b.graph), loss};
}

Network random_network(uint32_t seed, int nodes) {
  std::mt19937 random(seed);
  const auto pick = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  constexpr int64_t width = 6;
  GraphBuilder b;
  std::vector<ValueId> made = {b.input("x", Shape{4, width}), b.input("y", Shape{4, width})};
  const auto any = [&] { return made[made.size() - 1 - pick(std::min<std::size_t>(made.size(), 5))]; };  // a recent one
  for (int i = 0; i < nodes; ++i) {
    const std::string name = "op" + std::to_string(i);
    const ValueId x = any(), y = any();
    switch (pick(13)) {
      case 0:
        made.push_back(b.linear(name, x, width));
        break;
      case 1:
        made.push_back(b.layer_norm(name, x));
        break;
      case 2:
        made.push_back(b.layer_norm(name, b.ewise2(Ewise::add, x, y)));
        break;
      case 3:
        made.push_back(b.dropout(x, 0.25f));
        break;
      case 4:
        made.push_back(b.ewise2(Ewise::mul, x, b.parameter(name + ".scale", Shape{width})));
        break;
      case 5:
        made.push_back(b.reshape(b.ewise(Ewise::tanh, b.reshape(x, Shape{2, 2, width})), Shape{4, width}));
        break;
      case 6:
        made.push_back(b.matmul(b.transpose(b.matmul(x, x, false, true), {1, 0}), y));
        break;
      case 7:
        made.push_back(b.graph.apply(OpKind::softmax, name, SoftmaxAttrs{}, {x}));
        break;
      case 8:
        made.push_back(b.ewise2(Ewise::sub, x, y));
        break;
      case 9:
        made.push_back(b.ewise2(Ewise::mul, x, y));
        break;
      case 10:
        made.push_back(b.ewise(Ewise::gelu, x));
        break;
      case 11:
        made.push_back(b.ewise(Ewise::relu, x));
        break;
      default:
        made.push_back(b.ewise2(Ewise::add, x, y));
    }
  }
  ValueId sum = made.back();
  for (std::size_t i = made.size() - 1; i-- > 2;) {  // nothing is without effect
    if (i % 4 == 0) sum = b.ewise2(Ewise::add, sum, made[i]);
  }
  const ValueId loss = b.mean(b.ewise(Ewise::square, b.layer_norm("last", sum)));
  return {std::move(b.graph), loss};
}

Network training_graph(Network network, const PrecisionPolicy& policy) {
  DifferentiateOptions options;
  options.accumulate = policy.fp32_param_gradients;
  differentiate(network.graph, network.loss, options);
  assign_precision(network.graph, policy);
  return network;
}

Network compiled_graph(Network network, const PrecisionPolicy& policy, const FusionOptions& fusion) {
  network = training_graph(std::move(network), policy);
  fuse(network.graph, {network.loss}, fusion);
  order_nodes(network.graph, {network.loss});
  return network;
}

int count_nodes(const Graph& graph, OpKind kind) {
  return static_cast<int>(
      std::count_if(graph.nodes.begin() + 1, graph.nodes.end(), [&](const Node& node) { return node.kind == kind; }));
}

bool is_well_formed(const Graph& graph) {
  std::vector<char> made(graph.values.size(), 0);
  for (std::size_t v = 1; v < graph.values.size(); ++v) {
    const Role role = graph.values[v].role;
    made[v] = role == Role::input || role == Role::constant || role == Role::parameter;
  }
  for (NodeId n = 1; n < static_cast<NodeId>(graph.nodes.size()); ++n) {
    for (ValueId in : graph.node(n).inputs) {
      if (in != none && !made[in]) return false;
    }
    for (ValueId out : graph.node(n).outputs) {
      if (out == none) continue;
      if (made[out] || graph.value(out).producer != n) return false;
      made[out] = 1;
    }
  }
  return true;
}

}  // namespace mpt::test
