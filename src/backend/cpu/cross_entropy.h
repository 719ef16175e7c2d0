// Softmax cross-entropy over class indices, and its gradient.
#pragma once

#include <memory>

#include "backend/cpu/registry.h"

namespace mpt::cpu {

std::unique_ptr<Kernel> make_cross_entropy(const Graph& graph, const Node& node, const Target& target);
std::unique_ptr<Kernel> make_cross_entropy_grad(const Graph& graph, const Node& node, const Target& target);

}  // namespace mpt::cpu
