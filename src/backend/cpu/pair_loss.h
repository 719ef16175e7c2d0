// Losses of a tensor and a target of the same shape: squared error, absolute error, binary cross-entropy on logits.
#pragma once

#include <memory>

#include "backend/cpu/registry.h"

namespace mpt::cpu {

std::unique_ptr<Kernel> make_pair_loss(const Graph& graph, const Node& node, const Target& target);
std::unique_ptr<Kernel> make_pair_loss_grad(const Graph& graph, const Node& node, const Target& target);

}  // namespace mpt::cpu
