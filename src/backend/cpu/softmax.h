// Softmax and log-softmax along one axis, and their gradients.
#pragma once

#include <memory>

#include "backend/cpu/registry.h"

namespace mpt::cpu {

std::unique_ptr<Kernel> make_softmax(const Graph& graph, const Node& node, const Target& target);
std::unique_ptr<Kernel> make_softmax_grad(const Graph& graph, const Node& node, const Target& target);

}  // namespace mpt::cpu
