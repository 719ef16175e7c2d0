// What the implementations that work row by row share.
#pragma once

#include <initializer_list>
#include <memory>

#include "backend/cuda/registry.h"

namespace mpt::cuda {

constexpr int64_t longest_row = int64_t{1} << 30;  // elements: kernels count them in 32 bits

template <typename K>
std::unique_ptr<Kernel> make_kernel(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<K>(graph, node, target);
}

inline bool are_f32(const Graph& graph, const std::vector<ValueId>& ids, std::initializer_list<std::size_t> which) {
  for (std::size_t i : which)
    if (has(ids, i) && graph.value(ids[i]).dtype != DType::f32) return false;
  return true;
}

}  // namespace mpt::cuda
