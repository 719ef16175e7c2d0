// The derivations, one per family of ops. Notation in the comments: u is the unit roundoff, 2^-24; E(x) the error of x;
// a sum of n terms in any order and any grouping has an error of at most n u sum |terms| (each term passes at most n
// roundings). Terms of order u^2 are left out; the bounds' generous length of sums covers them.
#pragma once

#include <cmath>

#include "ops/tolerance.h"

namespace mpt::test {

inline const double unit = std::ldexp(1.0, -24);

struct Bound {
  const Graph& graph;
  const Node& node;
  const std::vector<Values>& in;
  const std::vector<Values>& out;
  const StepVars& vars;
  std::vector<Values>& error;

  const Shape& in_shape(int i) const { return graph.shape(node.inputs[static_cast<std::size_t>(i)]); }
  const Shape& out_shape(int i) const { return graph.shape(node.outputs[static_cast<std::size_t>(i)]); }
  bool has_in(int i) const {
    return i < static_cast<int>(node.inputs.size()) && node.inputs[static_cast<std::size_t>(i)] != none;
  }
  bool has_out(int i) const {
    return i < static_cast<int>(node.outputs.size()) && node.outputs[static_cast<std::size_t>(i)] != none;
  }
};

void bound_elementwise(const Bound&);
void bound_matmul(const Bound&);
void bound_reduce(const Bound&);
void bound_softmax(const Bound&);
void bound_softmax_grad(const Bound&);
void bound_norm(const Bound&);
void bound_norm_grad(const Bound&);
void bound_attention(const Bound&);
void bound_gather_grad(const Bound&);
void bound_cross_entropy(const Bound&);
void bound_cross_entropy_grad(const Bound&);
void bound_pair_loss(const Bound&);
void bound_pair_loss_grad(const Bound&);

}  // namespace mpt::test
