// Element-wise programs as the fusion pass handles them: with the values behind their registers.
#pragma once

#include <optional>
#include <vector>

#include "graph/graph.h"

namespace mpt {

// The program of an elementwise node, or the epilogue of a matmul (has_sums: register 0 is the product, not in
// `inputs`).
struct BoundProgram {
  bool has_sums = false;
  Program program;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
};

// Of an elementwise or matmul node.
BoundProgram bind_program(const Node& node);
void store_program(Node& node, const BoundProgram& bound);

// `first` followed by `second`, which reads outputs of it from their registers, unrounded. Of first's outputs those
// with stored[i] != 0 are still stored. Nothing if the result breaks the bounds of fusion.h.
std::optional<BoundProgram> join_programs(const BoundProgram& first, const BoundProgram& second,
                                          const std::vector<char>& stored);

// Is it the sum of its inputs, each once, and nothing else?
bool is_plain_sum(const Program& program);

}  // namespace mpt
