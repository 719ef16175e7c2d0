#include <cstdarg>
#include <cstdio>

#include "ops/op.h"

#include <algorithm>

namespace mpt {

void shape_error(const Graph& graph, const Node& node, const char* what, ...) {
  char reason[400];
  va_list arguments;
  va_start(arguments, what);
  std::vsnprintf(reason, sizeof reason, what, arguments);
  va_end(arguments);
  std::string tensors;
  for (ValueId input : node.inputs) {
    if (input == none) continue;
    if (!tensors.empty()) tensors += " and ";
    tensors += graph.describe(input);
  }
  fail(MPT_ERROR_INVALID_ARGUMENT, "%s '%s': %s: %s", op_def(node.kind).name, node.name.c_str(), tensors.c_str(),
       reason);
}

bool unify(int64_t a, int64_t b, int64_t* out) {
  if (a >= 0 && b >= 0 && a != b) return false;
  *out = a >= 0 ? a : (b >= 0 ? b : a);
  return true;
}

bool unify(const Shape& a, const Shape& b, Shape* out) {
  if (a.rank() != b.rank()) return false;
  Shape result = a;
  for (int i = 0; i < a.rank(); ++i)
    if (!unify(a[i], b[i], &result[i])) return false;
  *out = result;
  return true;
}

bool broadcast_named(const Shape& a, const Shape& b, Shape* out) {
  const int rank = std::max(a.rank(), b.rank());
  Shape result;
  for (int i = 0; i < rank; ++i) {
    const int64_t x = i < rank - a.rank() ? 1 : a[i - (rank - a.rank())];
    const int64_t y = i < rank - b.rank() ? 1 : b[i - (rank - b.rank())];
    int64_t size = x;
    if (x == 1)
      size = y;
    else if (y != 1 && !unify(x, y, &size))
      return false;
    result.push_back(size);
  }
  *out = result;
  return true;
}

void require_float(const Graph& graph, const Node& node, int input) {
  const DType found = graph.value(node.inputs[input]).dtype;
  if (!is_float(found)) shape_error(graph, node, "input %d is %s, expected a float type", input, name_of(found));
}

void require_dtype(const Graph& graph, const Node& node, int input, DType dtype) {
  const DType found = graph.value(node.inputs[input]).dtype;
  if (found != dtype) shape_error(graph, node, "input %d is %s, expected %s", input, name_of(found), name_of(dtype));
}

void require_rank(const Graph& graph, const Node& node, int input, int least) {
  const int found = graph.shape(node.inputs[input]).rank();
  if (found < least) shape_error(graph, node, "input %d has rank %d, expected at least %d", input, found, least);
}

double elements(const Graph& graph, ValueId id) {
  if (id == none) return 0;
  double count = 1;
  for (int64_t size : graph.shape(id)) count *= size < 0 ? 0.0 : static_cast<double>(size);
  return count;
}

double bytes_of(const Graph& graph, const Node& node) {
  double bytes = 0;
  for (ValueId id : node.inputs)
    if (id != none) bytes += elements(graph, id) * static_cast<double>(size_of(graph.value(id).dtype));
  for (ValueId id : node.outputs)
    if (id != none) bytes += elements(graph, id) * static_cast<double>(size_of(graph.value(id).dtype));
  return bytes;
}

Program single_step(Ewise op, float p, float q, uint32_t stream_id) {
  Program program;
  program.inputs = has_two_operands(op) ? 2 : 1;
  ElementwiseStep step{op, 0, static_cast<int16_t>(has_two_operands(op) ? 1 : -1), p, q, stream_id};
  program.outputs = {static_cast<int16_t>(program.inputs)};
  program.steps = {step};
  return program;
}

ValueId ewise(Graph& graph, Ewise op, ValueId a, float p, float q) {
  return graph.apply(OpKind::elementwise, "", ElementwiseAttrs{single_step(op, p, q), {}}, {a});
}

ValueId ewise2(Graph& graph, Ewise op, ValueId a, ValueId b, float p, float q) {
  return graph.apply(OpKind::elementwise, "", ElementwiseAttrs{single_step(op, p, q), {}}, {a, b});
}

ValueId reshape_to(Graph& graph, ValueId x, const Shape& shape) {
  if (graph.shape(x) == shape) return x;
  return graph.apply(OpKind::reshape, "", ReshapeAttrs{shape, -1}, {x});
}

ValueId reduce_to(Graph& graph, ValueId gradient, const Shape& target) {
  const Shape from = graph.shape(gradient);
  if (from == target) return gradient;
  const int lead = from.rank() - target.rank();
  std::vector<int> axes;
  bool only_leading = true;
  for (int i = 0; i < from.rank(); ++i) {
    if (i < lead)
      axes.push_back(i);
    else if (target[i - lead] == 1 && from[i] != 1) {
      axes.push_back(i);
      only_leading = false;
    }
  }
  if (axes.empty()) return reshape_to(graph, gradient, target);
  const ValueId sum = graph.apply(OpKind::reduce, "", ReduceAttrs{Reduction::sum, axes, !only_leading}, {gradient});
  return reshape_to(graph, sum, target);
}

ValueId matmul(Graph& graph, ValueId a, ValueId b, bool transpose_a, bool transpose_b) {
  return graph.apply(OpKind::matmul, "", MatmulAttrs{transpose_a, transpose_b, {}}, {a, b});
}

const OpDef& op_def(OpKind kind) {
  switch (kind) {
    case OpKind::elementwise:
      return elementwise_def;
    case OpKind::matmul:
      return matmul_def;
    case OpKind::reduce:
      return reduce_def;
    case OpKind::reduce_max_grad:
      return reduce_max_grad_def;
    case OpKind::softmax:
      return softmax_def;
    case OpKind::softmax_grad:
      return softmax_grad_def;
    case OpKind::norm:
      return norm_def;
    case OpKind::norm_grad:
      return norm_grad_def;
    case OpKind::attention:
      return attention_def;
    case OpKind::attention_grad:
      return attention_grad_def;
    case OpKind::reshape:
      return reshape_def;
    case OpKind::transpose:
      return transpose_def;
    case OpKind::slice:
      return slice_def;
    case OpKind::concat:
      return concat_def;
    case OpKind::gather:
      return gather_def;
    case OpKind::gather_grad:
      return gather_grad_def;
    case OpKind::pad:
      return pad_def;
    case OpKind::cross_entropy:
      return cross_entropy_def;
    case OpKind::cross_entropy_grad:
      return cross_entropy_grad_def;
    case OpKind::pair_loss:
      return pair_loss_def;
    case OpKind::pair_loss_grad:
      return pair_loss_grad_def;
    case OpKind::loss_seed:
      return loss_seed_def;
    case OpKind::accumulate:
      return accumulate_def;
    case OpKind::custom:
      return custom_def;
    case OpKind::custom_grad:
      return custom_grad_def;
    case OpKind::count_:
      break;
  }
  fail(MPT_ERROR_INTERNAL, "no op of kind %d", static_cast<int>(kind));
}

}  // namespace mpt
