// What kernels that work row by row share: which nodes they take, and how many rows make a task.
#pragma once

#include <algorithm>

#include "backend/cpu/element.h"
#include "backend/cpu/registry.h"

namespace mpt::cpu {

// Every float tensor is of a type that kernels compute with.
inline bool has_element_types(const Graph& graph, const Node& node) {
  const auto fits = [&](ValueId id) {
    return id == none || !is_float(graph.value(id).dtype) || is_element(graph.value(id).dtype);
  };
  return std::all_of(node.inputs.begin(), node.inputs.end(), fits) &&
         std::all_of(node.outputs.begin(), node.outputs.end(), fits);
}

// Storage type of an input or output; FP32 where there is none.
inline Element element_of(const Graph& graph, const std::vector<ValueId>& ids, std::size_t i) {
  return i < ids.size() && ids[i] != none ? element_of(graph.value(ids[i]).dtype) : Element::f32;
}

// Rows of n elements that make a task: enough work to be worth handing to a thread.
inline int64_t rows_per_task(int64_t n) {
  constexpr int64_t elements = 16384;
  return std::max<int64_t>(1, elements / n);
}

}  // namespace mpt::cpu
