#include "backend/cuda/registry.h"

#include "backend/cuda/kernels.h"

namespace mpt::cuda {

const Registry& registry() {
  static const Registry lists = [] {
    Registry r;
    register_accumulate(r);
    register_attention(r);
    register_concat(r);
    register_cross_entropy(r);
    register_custom(r);
    register_elementwise(r);
    register_gather(r);
    register_matmul(r);
    register_norm(r);
    register_pad(r);
    register_pair_loss(r);
    register_reduce(r);
    register_reduce_max_grad(r);
    register_reshape(r);
    register_seed(r);
    register_slice(r);
    register_softmax(r);
    register_transpose(r);
    return r;
  }();
  return lists;
}

bool has_element_types(const Graph& graph, const Node& node) {
  for (const auto* ids : {&node.inputs, &node.outputs})
    for (ValueId id : *ids)
      if (id != none && is_float(graph.value(id).dtype) && !is_element(graph.value(id).dtype)) return false;
  return true;
}

}  // namespace mpt::cuda
