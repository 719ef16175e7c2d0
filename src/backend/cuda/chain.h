// A chain of element-wise steps for kernels/chain.h: an elementwise node, or what follows a matrix multiply.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "kernels/chain.h"

namespace mpt::cuda {

class Chain {
 public:
  // shape: of every output. inputs and outputs are the values behind the program's input registers and its stored ones;
  // with has_sums register 0 is given by the caller in a tensor of its own, and `inputs` starts at register 1.
  static bool supports(const Graph& graph, const Program& program, const Shape& shape,
                       const std::vector<ValueId>& inputs, const std::vector<ValueId>& outputs, bool has_sums);
  Chain(const Graph& graph, const Program& program, const Shape& shape, const std::vector<ValueId>& inputs,
        const std::vector<ValueId>& outputs, bool has_sums = false, Element sums = Element::f32);

  // Enqueues the computation of elements [first, first + n) of the outputs, in row-major order of the shape. Pointers
  // are those of whole tensors, in the order of the constructor's values; an output may be the memory of an input that
  // has its shape and element size. sums: register 0 of these n elements (null without has_sums). Elements depend on
  // nothing but their position, so any split gives the same bits.
  void run(Stream stream, int64_t first, int64_t n, const void* sums, const void* const* inputs, void* const* outputs,
           const StepVars* vars) const;

 private:
  ChainArgs args_{};  // but for what run() is given
  std::vector<std::size_t> tensor_of_input_, tensor_of_output_;
  bool has_sums_;
};

}  // namespace mpt::cuda
