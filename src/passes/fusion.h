// Fusion: fewer passes over memory and fewer stored tensors. Runs after the precision pass.
//
// Rounding: in a fused node each step works on FP32 registers and every stored output is rounded once, so a value
// that is read by a later step of the same node is not rounded in between. In fp32 a fused graph gives the bits of
// the unfused one.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace mpt {

struct FusionOptions {
  bool transposes = true;     // transposes that swap the last two axes become flags of the matmul that reads them
  bool elementwise = true;    // chains of element-wise nodes of one shape
  bool epilogues = true;      // element-wise nodes after a matmul: bias, activation, dropout, residual, their gradients
  bool residual_norm = true;  // add, then norm: the norm reads both terms and stores the sum if others read it
  bool norm_grad_add = true;  // a gradient added to norm_grad's dx: its `add` input
  bool packed_attention = true;  // slices of one projection that are q, k and v: the projection itself

  static FusionOptions none() { return {false, false, false, false, false, false}; }
};

// Bounds of one fused program: its registers and stored outputs stay few enough for every backend.
constexpr int max_program_registers = 24;  // inputs + steps
constexpr int max_program_inputs = 8;
constexpr int max_program_outputs = 4;

// Simplifies and fuses. The values in `kept` are still computed and stored, rounded as before.
void fuse(Graph& graph, const std::vector<ValueId>& kept, const FusionOptions& options = {});

}  // namespace mpt
