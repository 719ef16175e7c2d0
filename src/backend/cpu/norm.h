// Layer and RMS normalisation over the last axis, and their gradients.
#pragma once

#include <memory>

#include "backend/cpu/registry.h"

namespace mpt::cpu {

std::unique_ptr<Kernel> make_norm(const Graph& graph, const Node& node, const Target& target);
std::unique_ptr<Kernel> make_norm_grad(const Graph& graph, const Node& node, const Target& target);

}  // namespace mpt::cpu
