// Helpers for shape rules and gradient rules. What an op is: graph/op_def.h; one file per op beside this one.
#pragma once

#include "graph/op_def.h"

namespace mpt {

// The definitions, one per kind, each in the file of its op.
extern const OpDef elementwise_def, matmul_def, reduce_def, reduce_max_grad_def, softmax_def, softmax_grad_def,
    norm_def, norm_grad_def, attention_def, attention_grad_def, reshape_def, transpose_def, slice_def, concat_def,
    gather_def, gather_grad_def, pad_def, cross_entropy_def, cross_entropy_grad_def, pair_loss_def, pair_loss_grad_def,
    loss_seed_def, accumulate_def, custom_def, custom_grad_def;

// ---- shape rules; sizes may be named dimensions (negative), which are taken on trust until actual sizes are known ----

// Throws INVALID_ARGUMENT: "matmul 'fc1': 'x' [32, 10] and 'fc1.weight' [256, 784]: <what>".
[[noreturn]] void shape_error(const Graph& graph, const Node& node, const char* what, ...)
    __attribute__((format(printf, 3, 4)));
// The common size of two that must be equal; none of them known: the first.
bool unify(int64_t a, int64_t b, int64_t* out);
bool unify(const Shape& a, const Shape& b, Shape* out);
bool broadcast_named(const Shape& a, const Shape& b, Shape* out);
void require_float(const Graph& graph, const Node& node, int input);
void require_dtype(const Graph& graph, const Node& node, int input, DType dtype);
void require_rank(const Graph& graph, const Node& node, int input, int least);
// Elements where all sizes are known, else 0: for costs.
double elements(const Graph& graph, ValueId id);

// ---- gradient rules ----

ValueId ewise(Graph& graph, Ewise op, ValueId a, float p = 0, float q = 0);
ValueId ewise2(Graph& graph, Ewise op, ValueId a, ValueId b, float p = 0, float q = 0);
// Sums a gradient over the axes along which `target` was broadcast, and gives it the target's shape.
ValueId reduce_to(Graph& graph, ValueId gradient, const Shape& target);
ValueId reshape_to(Graph& graph, ValueId x, const Shape& shape);
ValueId matmul(Graph& graph, ValueId a, ValueId b, bool transpose_a, bool transpose_b);

Program single_step(Ewise op, float p = 0, float q = 0, uint32_t stream_id = 0);

}  // namespace mpt
