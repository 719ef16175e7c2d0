#include "ops/tolerance.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/tolerance_parts.h"

namespace mpt::test {

namespace {

// Half a unit in the last place, relative; and half of the smallest subnormal.
struct Rounding {
  double relative, absolute;
};

Rounding rounding_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return {std::ldexp(1.0, -11), std::ldexp(1.0, -25)};
    case DType::bf16:
      return {std::ldexp(1.0, -8), std::ldexp(1.0, -134)};
    case DType::f32:
      return {std::ldexp(1.0, -24), std::ldexp(1.0, -150)};
    default:
      return {0, 0};
  }
}

}  // namespace

bool is_within(double found, double exact, double error, DType dtype) {
  if (std::isnan(exact)) return std::isnan(found);
  if (error == 0 || std::isinf(exact)) return found == round_to(dtype, exact);
  if (std::isinf(found)) {  // an overflow that an allowed error can make
    return std::isinf(round_to(dtype, exact + error)) || std::isinf(round_to(dtype, exact - error));
  }
  const Rounding r = rounding_of(dtype);
  // FP32 arithmetic itself may end in subnormals: a few of their units.
  const double allowed = error + r.relative * (std::fabs(exact) + error) + r.absolute + std::ldexp(1.0, -146);
  return std::fabs(found - exact) <= allowed;  // false for NaN
}

std::vector<Values> arithmetic_error(const Graph& graph, const Node& node, const std::vector<Values>& inputs,
                                     const std::vector<Values>& outputs, const StepVars& vars) {
  std::vector<Values> errors;
  for (const Values& output : outputs) errors.emplace_back(output.size(), 0.0);
  const Bound bound{graph, node, inputs, outputs, vars, errors};
  switch (node.kind) {
    case OpKind::elementwise:
      bound_elementwise(bound);
      break;
    case OpKind::matmul:
      bound_matmul(bound);
      break;
    case OpKind::reduce:
      bound_reduce(bound);
      break;
    case OpKind::softmax:
      bound_softmax(bound);
      break;
    case OpKind::softmax_grad:
      bound_softmax_grad(bound);
      break;
    case OpKind::norm:
      bound_norm(bound);
      break;
    case OpKind::norm_grad:
      bound_norm_grad(bound);
      break;
    case OpKind::attention:
    case OpKind::attention_grad:
      bound_attention(bound);
      break;
    case OpKind::gather_grad:
      bound_gather_grad(bound);
      break;
    case OpKind::cross_entropy:
      bound_cross_entropy(bound);
      break;
    case OpKind::cross_entropy_grad:
      bound_cross_entropy_grad(bound);
      break;
    case OpKind::pair_loss:
      bound_pair_loss(bound);
      break;
    case OpKind::pair_loss_grad:
      bound_pair_loss_grad(bound);
      break;
    case OpKind::reduce_max_grad:  // these only move and compare
    case OpKind::reshape:
    case OpKind::transpose:
    case OpKind::slice:
    case OpKind::concat:
    case OpKind::gather:
      break;
    case OpKind::pad:         // its value is an FP32 number
    case OpKind::loss_seed:   // two products
    case OpKind::accumulate:  // one sum
    case OpKind::custom:      // the caller's functions of the tests form each element with one rounding to FP32
    case OpKind::custom_grad:
      for (std::size_t y = 0; y < outputs.size(); ++y) {
        for (std::size_t i = 0; i < outputs[y].size(); ++i) errors[y][i] = 2 * unit * std::fabs(outputs[y][i]);
      }
      break;
    case OpKind::count_:
      break;
  }
  return errors;
}

}  // namespace mpt::test
