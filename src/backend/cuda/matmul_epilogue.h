// Which epilogues of matrix multiplies cuBLASLt computes itself.
#pragma once

#include <cstddef>
#include <optional>

#include "backend/cuda/lib/blas.h"
#include "graph/graph.h"

namespace mpt::cuda {

// activation(sum + bias + residual), or sum * gelu_tanh'(aux). Numbers are those of the node's inputs and outputs, -1:
// none.
struct NativeEpilogue {
  BlasEpilogue kind = BlasEpilogue::none;
  int bias = -1;      // input: as many numbers as the result has columns
  int residual = -1;  // input of the result's shape
  int aux_input = -1, aux_output = -1;
  int output = 0;
};

// Of a matmul node; nothing where its program is another one, or its tensors' types are not those that the library
// takes.
std::optional<NativeEpilogue> native_epilogue(const Graph& graph, const Node& node);

// Does every step only choose between its input and 0, so that rounding before the program gives the bits of rounding
// after it? Then the product may be kept in 16 bits on its way to the chain.
bool commutes_with_rounding(const Graph& graph, const Node& node);

const char* name_of(const NativeEpilogue& epilogue);

}  // namespace mpt::cuda
