// Runs a prepared chain: for each block, inputs are widened and broadcast into slots, steps are vector loops from slot to
// slot, outputs are rounded. The arithmetic of every step is kernels/numerics/elementwise.h, so that each build of this
// file gives the same bits.
#include <cstdint>
#include <cstring>

#include "backend/cpu/isa/chain_program.h"
#include "backend/cpu/isa/convert.h"
#include "kernels/numerics/elementwise.h"
#include "kernels/numerics/philox.h"

namespace mpt::cpu::MPT_ISA {
namespace {

// Loops run over whole groups of this many elements, so that they have no scalar rest in any build.
constexpr int64_t group = 16;

template <typename F>
MPT_HD void map1(const float* a, float* to, int64_t groups, F f) {
  const int64_t n = groups * group;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] = f(a[i]);
}

template <typename F>
MPT_HD void map2(const float* a, const float* b, float* to, int64_t groups, F f) {
  const int64_t n = groups * group;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] = f(a[i], b[i]);
}

// Random words of consecutive groups of four elements whose numbers share their upper half.
void random_words(uint32_t first, int64_t count, uint32_t stream_id, uint32_t step, uint32_t place, uint32_t key0,
                  uint32_t key1, uint32_t* to) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const Random4 r = philox4x32_10(first + static_cast<uint32_t>(i), stream_id, step, place, key0, key1);
    to[4 * i] = r.v[0];
    to[4 * i + 1] = r.v[1];
    to[4 * i + 2] = r.v[2];
    to[4 * i + 3] = r.v[3];
  }
}

void dropout(const float* a, float* to, int64_t groups, int64_t first, const ChainStep& step, const StepVars& vars) {
  alignas(64) uint32_t words[chain_max_block + 8];
  const int64_t n = groups * group;
  const uint64_t begin = static_cast<uint64_t>(first) / 4;
  const uint64_t end = (static_cast<uint64_t>(first + n) + 3) / 4;
  for (uint64_t at = begin; at < end;) {
    const uint64_t next_upper_half = ((at >> 32) + 1) << 32;
    const uint64_t stop = end < next_upper_half ? end : next_upper_half;
    const RandomCounter c = random_counter(vars.seed, vars.step, vars.micro_step, vars.rank, step.stream_id, at);
    random_words(c.counter[0], static_cast<int64_t>(stop - at), c.counter[1], c.counter[2], c.counter[3], c.key[0],
                 c.key[1], words + 4 * (at - begin));
    at = stop;
  }
  const uint32_t* own = words + first % 4;
  const float factor = scalar::dropout_factor(step.p), rate = step.p;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] = scalar::dropout(a[i], uniform(own[i]), rate, factor);
}

void run_step(const ChainStep& step, const float* a, const float* b, float* to, int64_t groups, int64_t first,
              const StepVars* vars) {
  const float p = step.p, q = step.q;
  switch (step.op) {
    case Ewise::copy:
      return map1(a, to, groups, [](float x) { return x; });
    case Ewise::scale:
      return map1(a, to, groups, [=](float x) { return scalar::scale(x, p, q); });
    case Ewise::relu:
      return map1(a, to, groups, [](float x) { return scalar::relu(x); });
    case Ewise::leaky_relu:
      return map1(a, to, groups, [=](float x) { return scalar::leaky_relu(x, p); });
    case Ewise::gelu:
      return map1(a, to, groups, [](float x) { return scalar::gelu(x); });
    case Ewise::gelu_tanh:
      return map1(a, to, groups, [](float x) { return scalar::gelu_tanh(x); });
    case Ewise::silu:
      return map1(a, to, groups, [](float x) { return scalar::silu(x); });
    case Ewise::sigmoid:
      return map1(a, to, groups, [](float x) { return sigmoid(x); });
    case Ewise::tanh:
      return map1(a, to, groups, [](float x) { return tanh_f32(x); });
    case Ewise::exp:
      return map1(a, to, groups, [](float x) { return exp_f32(x); });
    case Ewise::log:
      return map1(a, to, groups, [](float x) { return log_f32(x); });
    case Ewise::sqrt:
      return map1(a, to, groups, [](float x) { return square_root(x); });
    case Ewise::square:
      return map1(a, to, groups, [](float x) { return scalar::square(x); });
    case Ewise::clamp:
      return map1(a, to, groups, [=](float x) { return scalar::clamp(x, p, q); });
    case Ewise::dropout:
      return dropout(a, to, groups, first, step, *vars);
    case Ewise::add:
      return map2(a, b, to, groups, [](float x, float y) { return x + y; });
    case Ewise::sub:
      return map2(a, b, to, groups, [](float x, float y) { return x - y; });
    case Ewise::mul:
      return map2(a, b, to, groups, [](float x, float y) { return x * y; });
    case Ewise::div:
      return map2(a, b, to, groups, [](float x, float y) { return x / y; });
    case Ewise::relu_grad:
      return map2(a, b, to, groups, [](float x, float y) { return scalar::relu_grad(x, y); });
    case Ewise::leaky_relu_grad:
      return map2(a, b, to, groups, [=](float x, float y) { return scalar::leaky_relu_grad(x, y, p); });
    case Ewise::gelu_grad:
      return map2(a, b, to, groups, [](float x, float y) { return scalar::gelu_grad(x, y); });
    case Ewise::gelu_tanh_grad:
      return map2(a, b, to, groups, [](float x, float y) { return scalar::gelu_tanh_grad(x, y); });
    case Ewise::silu_grad:
      return map2(a, b, to, groups, [](float x, float y) { return scalar::silu_grad(x, y); });
    case Ewise::sigmoid_grad:
      return map2(a, b, to, groups, [](float x, float y) { return scalar::sigmoid_grad(x, y); });
    case Ewise::tanh_grad:
      return map2(a, b, to, groups, [](float x, float y) { return scalar::tanh_grad(x, y); });
    case Ewise::log_grad:
      return map2(a, b, to, groups, [](float x, float y) { return scalar::log_grad(x, y); });
    case Ewise::sqrt_grad:
      return map2(a, b, to, groups, [](float x, float y) { return scalar::sqrt_grad(x, y); });
    case Ewise::square_grad:
      return map2(a, b, to, groups, [](float x, float y) { return scalar::square_grad(x, y); });
    case Ewise::clamp_grad:
      return map2(a, b, to, groups, [=](float x, float y) { return scalar::clamp_grad(x, y, p, q); });
    case Ewise::count_:
      return;
  }
}

MPT_HD void fill(float value, int64_t n, float* to) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] = value;
}

void load_broadcast(const ChainInput& input, const void* data, int64_t first, int64_t n, float* to) {
  const int inner = input.rank - 1;
  int64_t position[chain_max_rank];
  int64_t offset = 0;
  for (int d = inner, rest_is_zero = 0; d >= 0; --d) {
    position[d] = rest_is_zero ? 0 : first % input.size[d];
    first /= input.size[d];
    rest_is_zero = first == 0;
    offset += position[d] * input.stride[d];
  }
  for (;;) {
    const int64_t left = input.size[inner] - position[inner];
    const int64_t run = n < left ? n : left;
    if (input.stride[inner] == 0) {
      fill(load_one(input.type, data, offset), run, to);
    } else {
      widen(input.type, data, offset, run, to);
    }
    to += run;
    n -= run;
    if (n == 0) return;
    offset -= position[inner] * input.stride[inner];
    position[inner] = 0;
    for (int d = inner - 1; d >= 0; --d) {
      offset += input.stride[d];
      if (++position[d] < input.size[d]) break;
      offset -= input.size[d] * input.stride[d];
      position[d] = 0;
    }
  }
}

void load(const ChainInput& input, const void* data, int64_t first, int64_t n, float* to) {
  if (input.rank == 0) {
    fill(load_one(input.type, data, 0), n, to);
  } else if (input.rank == 1) {
    widen(input.type, data, first, n, to);
  } else {
    load_broadcast(input, data, first, n, to);
  }
}

// Where a block's operands are. padded: FP32 operands were copied behind the slots, `block` elements each.
struct Block {
  float* memory;
  int64_t stride;  // elements of a slot
  int64_t first;
  const float* sums;
  const void* const* inputs;
  const float* padded;

  const float* at(ChainOperand operand) const {
    switch (operand.place) {
      case ChainPlace::sums:
        return padded != nullptr ? padded : sums;
      case ChainPlace::direct:
        return padded != nullptr ? padded + (1 + operand.index) * stride
                                 : static_cast<const float*>(inputs[operand.index]) + first;
      case ChainPlace::slot:
        break;
    }
    return memory + operand.index * stride;
  }
};

void run_block(const ChainProgram& program, const Block& block, int64_t groups, int64_t n, void* const* outputs,
               const StepVars* vars) {
  for (int i = 0; i < program.n_inputs; ++i) {
    const ChainInput& input = program.inputs[i];
    if (input.slot < 0) continue;
    float* to = block.memory + input.slot * block.stride;
    load(input, block.inputs[input.tensor], block.first, n, to);
    fill(0, groups * group - n, to + n);
  }
  for (int i = 0; i < program.n_steps; ++i) {
    const ChainStep& step = program.steps[i];
    run_step(step, block.at(step.a), block.at(step.b), block.memory + step.slot * block.stride, groups, block.first,
             vars);
  }
  for (int i = 0; i < program.n_outputs; ++i) {
    const ChainOutput& output = program.outputs[i];
    narrow(output.type, block.at(output.value), n, outputs[output.tensor], block.first);
  }
}

// The last n < group elements: FP32 operands are copied to where whole groups can be read.
void run_rest(const ChainProgram& program, Block block, int64_t n, void* const* outputs, const StepVars* vars) {
  block.stride = group;
  float* padded = block.memory + program.slots * group;
  if (block.sums != nullptr) {
    std::memcpy(padded, block.sums, static_cast<std::size_t>(n) * sizeof(float));
    fill(0, group - n, padded + n);
  }
  for (int i = 0; i < program.n_inputs; ++i) {
    const ChainInput& input = program.inputs[i];
    if (input.slot >= 0) continue;
    float* to = padded + (1 + input.tensor) * group;
    std::memcpy(to, static_cast<const float*>(block.inputs[input.tensor]) + block.first,
                static_cast<std::size_t>(n) * sizeof(float));
    fill(0, group - n, to + n);
  }
  block.padded = padded;
  run_block(program, block, 1, n, outputs, vars);
}

}  // namespace

void run_chain(const ChainProgram& program, int64_t first, int64_t n, const float* sums, const void* const* inputs,
               void* const* outputs, const StepVars* vars) {
  alignas(64) float memory[chain_memory];
  Block block{memory, program.block, first, sums, inputs, nullptr};
  while (n >= group) {
    const int64_t whole = n - n % group;
    const int64_t count = whole < program.block ? whole : program.block;
    run_block(program, block, count / group, count, outputs, vars);
    block.first += count;
    if (block.sums != nullptr) block.sums += count;
    n -= count;
  }
  if (n > 0) run_rest(program, block, n, outputs, vars);
}

}  // namespace mpt::cpu::MPT_ISA
