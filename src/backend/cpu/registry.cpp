#include "backend/cpu/registry.h"

#include "backend/cpu/kernels.h"
#include "core/error.h"
#include "graph/op_def.h"

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

namespace {

std::string tensors_of(const Graph& graph, const Node& node) {
  std::string text;
  for (ValueId id : node.inputs) {
    if (!text.empty()) text += ", ";
    text += id == none ? "none" : name_of(graph.value(id).dtype) + graph.shape(id).text();
  }
  return text;
}

}  // namespace

std::unique_ptr<Kernel> prepare_kernel(const Graph& graph, const Node& node, const Target& target) {
  for (const Implementation& implementation : registry().list(node.kind))
    if (implementation.supports(graph, node, target)) return implementation.prepare(graph, node, target);
  fail(MPT_ERROR_UNSUPPORTED, "cpu: no implementation of '%s' (%s) for (%s)", node.name.c_str(), op_def(node.kind).name,
       tensors_of(graph, node).c_str());
}

}  // namespace mpt::cpu
