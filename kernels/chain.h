// A chain of element-wise steps, interpreted: one launch reads each input once and writes each output once, whatever
// the chain, its storage types and broadcasts are.
#pragma once

#include "kernels/divisor.h"
#include "kernels/element.h"
#include "kernels/launch.h"
#include "kernels/numerics/elementwise.h"
#include "kernels/numerics/step_vars.h"

namespace mpt::cuda {

constexpr int chain_max_inputs = 24, chain_max_outputs = 8, chain_max_steps = 40, chain_max_dimensions = 64;

// Eight neighbouring elements of a tensor are one vector, and a thread's work. A thread keeps vectors in columns of
// shared memory that are its own: 16 bytes are one unit, two for FP32, one for 16-bit types, which stay as they are
// stored. The result of the last step stays in registers.
struct ChainOperand {
  int16_t unit = in_registers;  // the column's first
  Element type = Element::f32;

  static constexpr int16_t in_registers = -1;
};

enum class ChainReads : int8_t {
  vectors,  // any vector is contiguous and aligned to 16 bytes
  one,      // all elements of a vector are the same one
  elements
};

// One of an input's merged dimensions.
struct ChainDimension {
  Divisor size;
  int64_t stride;
};

struct ChainInput {
  const void* data;
  ChainOperand column;
  ChainReads reads;
  bool relative;     // data's first element is that of the range, not of the tensor
  int8_t rank;       // 0: one element for all
  int8_t outermost;  // in `dimensions`; the others follow it
};

struct ChainStep {
  Ewise op;
  int8_t first_output, end_output;  // outputs that store its result
  int16_t save;                     // unit of the FP32 column that keeps its result; -1: none
  ChainOperand a, b;
  float p, q;
  uint32_t stream_id;
};

struct ChainOutput {
  void* data;
  Element type;
  bool vectors;  // aligned to 16 bytes
};

struct ChainArgs {
  int64_t first, count;  // the range of elements, in row-major order of the shape
  const StepVars* vars;
  int32_t n_inputs, n_steps;
  int32_t units;  // of shared memory for a thread
  ChainInput inputs[chain_max_inputs];
  ChainDimension dimensions[chain_max_dimensions];  // of all inputs
  ChainStep steps[chain_max_steps];
  ChainOutput outputs[chain_max_outputs];
};
static_assert(sizeof(ChainArgs) <= 4096);  // passed by value

void chain(const ChainArgs& args, Stream stream);

}  // namespace mpt::cuda
