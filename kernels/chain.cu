// The interpreter of element-wise chains. A thread first asks for all its inputs (asynchronous copies into its columns
// of shared memory, so that they are under way together without a register), then goes through the steps. Every branch
// on the program is the same for all threads; only the range's ends and broadcasts that cross rows take another way.
#include "kernels/chain.h"

#include "kernels/numerics/philox.h"

namespace mpt::cuda {
namespace {

// 16 bytes from global into shared memory, past the registers.
__device__ __forceinline__ void copy_unit(Words4* to, const void* from) {
#if defined(__CUDA_ARCH__)
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
#else
  *to = load_words(from);
#endif
}
__device__ __forceinline__ void wait_for_copies() {
#if defined(__CUDA_ARCH__)
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// Where a thread's units are: those of neighbouring threads side by side, so that a warp's accesses meet no bank twice.
struct Columns {
  Words4* own;
  int threads;
  __device__ __forceinline__ Words4* at(int unit) const { return own + unit * threads; }
};

// ---- inputs

// dimensions: the input's.
template <typename Index>
__device__ __forceinline__ int64_t offset_of(const ChainDimension* dimensions, int rank, Index element) {
  int64_t offset = 0;
  for (int d = rank - 1; d > 0; --d) {
    const Index outer = quotient(element, dimensions[d].size);
    const Index size = static_cast<Index>(dimensions[d].size.value);
    offset += static_cast<int64_t>(element - outer * size) * dimensions[d].stride;
    element = outer;
  }
  if (rank > 0) offset += static_cast<int64_t>(element) * dimensions[0].stride;
  return offset;
}

__device__ __forceinline__ uint32_t load_bits(const void* data, Element type, int64_t i) {
  if (type == Element::f32) return static_cast<const uint32_t*>(data)[i];
  return static_cast<const uint16_t*>(data)[i];
}

// Elements [low, high) of the vector that begins at `element`, one by one; zeros beside them.
template <typename Index>
__device__ __forceinline__ void gather(const ChainInput& input, const ChainDimension* dimensions, int64_t element,
                                       int low, int high, int64_t shift, const Columns& columns) {
  const Element type = input.column.type;
  uint32_t bits[vector_length];
#pragma unroll
  for (int j = 0; j < vector_length; ++j)
    bits[j] =
        j >= low && j < high
            ? load_bits(input.data, type, offset_of(dimensions, input.rank, static_cast<Index>(element + j)) - shift)
            : 0u;
  if (type == Element::f32) {
    *columns.at(input.column.unit) = Words4{{bits[0], bits[1], bits[2], bits[3]}};
    *columns.at(input.column.unit + 1) = Words4{{bits[4], bits[5], bits[6], bits[7]}};
  } else {
    *columns.at(input.column.unit) =
        Words4{{bits[0] | bits[1] << 16, bits[2] | bits[3] << 16, bits[4] | bits[5] << 16, bits[6] | bits[7] << 16}};
  }
}

template <typename Index>
__device__ __forceinline__ void fetch(const ChainInput& input, const ChainDimension* dimensions, int64_t first,
                                      int64_t element, int low, int high, const Columns& columns) {
  const Element type = input.column.type;
  const int64_t shift = input.relative ? first : 0;
  const bool whole = low == 0 && high == vector_length;
  if (input.reads == ChainReads::vectors && whole) {
    const int64_t offset = offset_of(dimensions, input.rank, static_cast<Index>(element)) - shift;
    const char* at = static_cast<const char*>(input.data) + offset * size_of_element(type);
    copy_unit(columns.at(input.column.unit), at);
    if (type == Element::f32) copy_unit(columns.at(input.column.unit + 1), at + 16);
  } else if (input.reads == ChainReads::one) {
    uint32_t word = load_bits(input.data, type, offset_of(dimensions, input.rank, static_cast<Index>(element)) - shift);
    if (type != Element::f32) word |= word << 16;
    const Words4 words{{word, word, word, word}};
    *columns.at(input.column.unit) = words;
    if (type == Element::f32) *columns.at(input.column.unit + 1) = words;
  } else {
    gather<Index>(input, dimensions, element, low, high, shift, columns);
  }
}

__device__ __forceinline__ void load_column(const ChainOperand& operand, const Columns& columns,
                                            float (&x)[vector_length]) {
  const Words4 words = *columns.at(operand.unit);
  if (operand.type == Element::f32) {
    const Words4 more = *columns.at(operand.unit + 1);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      x[j] = float_of(words.v[j]);
      x[j + 4] = float_of(more.v[j]);
    }
    return;
  }
  const bool f16 = operand.type == Element::f16;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const uint16_t low = static_cast<uint16_t>(words.v[j]), high = static_cast<uint16_t>(words.v[j] >> 16);
    x[2 * j] = f16 ? f16_to_f32(low) : bf16_to_f32(low);
    x[2 * j + 1] = f16 ? f16_to_f32(high) : bf16_to_f32(high);
  }
}

__device__ __forceinline__ void save_column(int unit, const Columns& columns, const float (&x)[vector_length]) {
  *columns.at(unit) = Words4{{bits_of(x[0]), bits_of(x[1]), bits_of(x[2]), bits_of(x[3])}};
  *columns.at(unit + 1) = Words4{{bits_of(x[4]), bits_of(x[5]), bits_of(x[6]), bits_of(x[7])}};
}

// ---- steps

template <Ewise op>
__device__ __forceinline__ void map(float (&a)[vector_length], const float (&b)[vector_length], float p, float q) {
#pragma unroll
  for (int j = 0; j < vector_length; ++j) a[j] = apply(op, a[j], b[j], p, q);
}

// A call of the generator serves four neighbours; vectors begin at multiples of eight.
__device__ __forceinline__ void dropout(float (&a)[vector_length], const ChainStep& step, int64_t element,
                                        const StepVars* vars) {
  const float factor = scalar::dropout_factor(step.p);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const Random4 r = random_bits(vars->seed, vars->step, vars->micro_step, vars->rank, step.stream_id,
                                  static_cast<uint64_t>(element) / 4 + half);
#pragma unroll
    for (int j = 0; j < 4; ++j) a[4 * half + j] = scalar::dropout(a[4 * half + j], uniform(r.v[j]), step.p, factor);
  }
}

// a = op(a, b).
__device__ __forceinline__ void run_step(const ChainStep& step, float (&a)[vector_length],
                                         const float (&b)[vector_length], int64_t element, const StepVars* vars) {
  const float p = step.p, q = step.q;
#define MPT_CASE(op)            \
  case Ewise::op:               \
    map<Ewise::op>(a, b, p, q); \
    break
  switch (step.op) {
    MPT_CASE(scale);
    MPT_CASE(relu);
    MPT_CASE(leaky_relu);
    MPT_CASE(gelu);
    MPT_CASE(gelu_tanh);
    MPT_CASE(silu);
    MPT_CASE(sigmoid);
    MPT_CASE(tanh);
    MPT_CASE(exp);
    MPT_CASE(log);
    MPT_CASE(sqrt);
    MPT_CASE(square);
    MPT_CASE(clamp);
    MPT_CASE(add);
    MPT_CASE(sub);
    MPT_CASE(mul);
    MPT_CASE(div);
    MPT_CASE(relu_grad);
    MPT_CASE(leaky_relu_grad);
    MPT_CASE(gelu_grad);
    MPT_CASE(gelu_tanh_grad);
    MPT_CASE(silu_grad);
    MPT_CASE(sigmoid_grad);
    MPT_CASE(tanh_grad);
    MPT_CASE(log_grad);
    MPT_CASE(sqrt_grad);
    MPT_CASE(square_grad);
    MPT_CASE(clamp_grad);
    case Ewise::dropout:
      dropout(a, step, element, vars);
      break;
    case Ewise::copy:
    case Ewise::count_:
      break;
  }
#undef MPT_CASE
}

// ---- outputs

__device__ __forceinline__ void store(const ChainOutput& output, int64_t element, int low, int high,
                                      const float (&x)[vector_length]) {
  if (output.vectors && low == 0 && high == vector_length) {
    store_vector(output.data, output.type, element, x);
    return;
  }
#pragma unroll
  for (int j = 0; j < vector_length; ++j)
    if (j >= low && j < high) store_element(output.data, output.type, element + j, x[j]);
}

// Index: of elements. 32 bits where all of them are below 2^31.
template <typename Index>
__global__ void __launch_bounds__(256, 4) chain_kernel(const MPT_GRID_CONSTANT ChainArgs args) {
  MPT_DYNAMIC_SHARED(Words4, memory);
  const Columns columns{memory + threadIdx.x, static_cast<int>(blockDim.x)};
  const int64_t end = args.first + args.count;
  const int64_t last_vector = (end - 1) / vector_length;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t vector = args.first / vector_length + static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       vector <= last_vector; vector += step) {
    const int64_t element = vector * vector_length;
    const int low = element < args.first ? static_cast<int>(args.first - element) : 0;
    const int high = end - element < vector_length ? static_cast<int>(end - element) : vector_length;
    for (int i = 0; i < args.n_inputs; ++i) {
      const ChainInput& input = args.inputs[i];
      fetch<Index>(input, args.dimensions + input.outermost, args.first, element, low, high, columns);
    }
    wait_for_copies();

    float a[vector_length], b[vector_length];
#pragma unroll
    for (int j = 0; j < vector_length; ++j) a[j] = b[j] = 0;
    for (int s = 0; s < args.n_steps; ++s) {
      const ChainStep& now = args.steps[s];
      if (has_two_operands(now.op)) {
        if (now.b.unit == ChainOperand::in_registers) {
#pragma unroll
          for (int j = 0; j < vector_length; ++j) b[j] = a[j];
        } else {
          load_column(now.b, columns, b);
        }
      }
      if (now.a.unit != ChainOperand::in_registers) load_column(now.a, columns, a);
      run_step(now, a, b, element, args.vars);
      if (now.save >= 0) save_column(now.save, columns, a);
      for (int o = now.first_output; o < now.end_output; ++o) store(args.outputs[o], element, low, high, a);
    }
  }
}

}  // namespace

void chain(const ChainArgs& args, Stream stream) {
  if (args.count == 0) return;
  // At most 48 KiB of shared memory, so that several blocks fit; chains beyond all measure get what they need.
  const int threads = args.units <= 12 ? 256 : args.units <= 24 ? 128 : args.units <= 48 ? 64 : 32;
  const int64_t first_vector = args.first / vector_length;
  const int64_t vectors = (args.first + args.count - 1) / vector_length - first_vector + 1;
  const unsigned blocks = blocks_for(vectors, threads, 0x7fffffff);
  const std::size_t shared = static_cast<std::size_t>(args.units) * threads * sizeof(Words4);
  const bool narrow = args.first + args.count < (int64_t{1} << 31) - vector_length;
  auto* const kernel = narrow ? chain_kernel<uint32_t> : chain_kernel<int64_t>;
  if (shared > 48 << 10) allow_shared_memory(kernel, shared);
  launch(kernel, dim3(blocks), dim3(threads), shared, stream, args);
}

}  // namespace mpt::cuda
