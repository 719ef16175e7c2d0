// Runs a chain of element-wise steps on blocks that stay in cache: inputs are widened to FP32 and broadcast, steps are
// vector loops over registers of one block, each output is rounded once. Also the epilogue of a matrix multiply.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/cpu/isa.h"
#include "backend/cpu/isa/chain_program.h"
#include "graph/graph.h"
#include "kernels/numerics/step_vars.h"

namespace mpt::cpu {

class Chain {
 public:
  // shape: of every output. inputs and outputs are the values behind the program's input registers and its stored ones; with
  // has_sums register 0 is given by the caller as FP32 numbers, and `inputs` starts at register 1.
  static bool supports(const Graph& graph, const Program& program, const Shape& shape,
                       const std::vector<ValueId>& inputs, const std::vector<ValueId>& outputs, bool has_sums);
  Chain(const Graph& graph, const Program& program, const Shape& shape, const std::vector<ValueId>& inputs,
        const std::vector<ValueId>& outputs, bool has_sums, Isa isa);

  // Computes elements [first, first + n) of the outputs, in row-major order of the shape. Pointers are those of whole tensors,
  // in the order of the constructor's values; an output may be the memory of an input that has its shape and element size.
  // sums: register 0 of these n elements (null without has_sums). Elements depend on nothing but their position, so any
  // split gives the same bits.
  void run(int64_t first, int64_t n, const float* sums, const void* const* inputs, void* const* outputs,
           const StepVars* vars) const {
    run_(program(), first, n, sums, inputs, outputs, vars);
  }

 private:
  ChainProgram program() const;

  std::vector<ChainInput> inputs_;
  std::vector<ChainStep> steps_;
  std::vector<ChainOutput> outputs_;
  int32_t slots_ = 0, block_ = 0;
  RunChain* run_;
};

}  // namespace mpt::cpu
