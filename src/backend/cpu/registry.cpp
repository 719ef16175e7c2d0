#include "backend/cpu/registry.h"

#include "backend/cpu/kernels.h"

namespace mpt::cpu {

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

std::unique_ptr<Kernel> prepare_kernel(const Graph& graph, const Node& node, const Target& target) {
  return registry().prepare("cpu", graph, node, target);
}

}  // namespace mpt::cpu
