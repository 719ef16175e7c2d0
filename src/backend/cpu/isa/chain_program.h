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

// Where an operand is: a slot of the block's memory, an FP32 input read in place (direct) or the caller's sums.
enum class ChainPlace : int16_t { slot, direct, sums };
struct ChainOperand {
  ChainPlace place = ChainPlace::slot;
  int16_t index = 0;
};

// An input's position for each element: merged dimensions, outermost first; the innermost stride is 0 or 1.
struct ChainInput {
  int32_t tensor;  // index of the pointer
  Element type;
  int32_t slot;    // that it is widened into
  int32_t rank;    // 0: one element for all
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
  int32_t block;  // elements handled at once
};

// Floats of block memory, and the fewest and most elements of a block.
constexpr int32_t chain_memory = 16384;
constexpr int32_t chain_min_block = 64;
constexpr int32_t chain_max_block = 1024;

using RunChain = void(const ChainProgram& program, int64_t first, int64_t n, float* sums, const void* const* inputs,
                      void* const* outputs, const StepVars* vars);

}  // namespace mpt::cpu

MPT_AT_EACH_LEVEL(void run_chain(const ChainProgram& program, int64_t first, int64_t n, float* sums,
                                 const void* const* inputs, void* const* outputs, const StepVars* vars);)
