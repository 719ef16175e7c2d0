// A chain of element-wise steps made ready for the vector loops: registers assigned to slots of cache memory, broadcasts
// resolved into strides. Plain types: every build of isa/ includes it.
#pragma once

#include <cstdint>

#include "backend/cpu/isa/element.h"
#include "backend/cpu/isa/levels.h"
#include "kernels/numerics/elementwise.h"
#include "kernels/numerics/step_vars.h"

namespace mpt::cpu {

constexpr int chain_max_rank = 8;

// Where an operand is: a slot of the block's memory, an FP32 tensor read where it lies, or the caller's sums.
enum class ChainPlace : int16_t { slot, direct, sums };
struct ChainOperand {
  ChainPlace place = ChainPlace::slot;
  int16_t index = 0;  // of the slot, or of the tensor
};

// An input's position for each element: merged dimensions, outermost first, the innermost stride 0 or 1. Rank 0 is one
// element for all, rank 1 one for each.
struct ChainInput {
  int32_t tensor;  // index of its pointer
  Element type;
  int32_t slot;  // that it is widened into; -1: read where it lies
  int32_t rank;
  int64_t size[chain_max_rank];
  int64_t stride[chain_max_rank];
};

struct ChainStep {
  Ewise op;
  ChainOperand a, b;
  int32_t slot;  // of the result; may be that of an operand
  float p, q;
  uint32_t stream_id;
};

struct ChainOutput {
  int32_t tensor;
  Element type;
  ChainOperand value;
};

struct ChainProgram {
  const ChainInput* inputs;
  const ChainStep* steps;
  const ChainOutput* outputs;
  int32_t n_inputs, n_steps, n_outputs;
  int32_t slots;
  int32_t block;  // elements handled at once, a multiple of 64
};

// Floats of block memory on the stack; slots and tensors that fit even the shortest blocks; a block's limits.
constexpr int32_t chain_memory = 16384;
constexpr int32_t chain_min_block = 64, chain_max_block = 1024;
constexpr int32_t chain_max_slots = chain_memory / chain_min_block, chain_max_tensors = 256;

using RunChain = void(const ChainProgram& program, int64_t first, int64_t n, const float* sums,
                      const void* const* inputs, void* const* outputs, const StepVars* vars);

}  // namespace mpt::cpu

MPT_AT_EACH_LEVEL(void run_chain(const ChainProgram& program, int64_t first, int64_t n, const float* sums,
                                 const void* const* inputs, void* const* outputs, const StepVars* vars);)
