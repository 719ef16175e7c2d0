// Scaled dot-product attention of several heads and its gradient, in tiles: scores exist for one tile at a time, in FP32.
#pragma once

#include <memory>

#include "backend/cpu/registry.h"

namespace mpt::cpu {

std::unique_ptr<Kernel> make_attention(const Graph& graph, const Node& node, const Target& target);
std::unique_ptr<Kernel> make_attention_grad(const Graph& graph, const Node& node, const Target& target);

}  // namespace mpt::cpu
