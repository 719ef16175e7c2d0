// One function per kind of op; registry.cpp lists them.
#pragma once

#include "backend/ref/kernel.h"

namespace mpt::ref {

using Prepare = std::unique_ptr<Kernel> (*)(const Graph&, const Node&);

std::unique_ptr<Kernel> prepare_elementwise(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_matmul(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_reduce(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_reduce_max_grad(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_softmax(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_softmax_grad(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_norm(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_norm_grad(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_attention(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_attention_grad(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_reshape(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_transpose(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_slice(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_concat(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_gather(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_gather_grad(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_pad(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_cross_entropy(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_cross_entropy_grad(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_pair_loss(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_pair_loss_grad(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_loss_seed(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_accumulate(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_custom(const Graph&, const Node&);
std::unique_ptr<Kernel> prepare_custom_grad(const Graph&, const Node&);

}  // namespace mpt::ref
