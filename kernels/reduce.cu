// Where outputs are few their elements are cut into pieces, whose results go to scratch and are reduced in turn.
#include "kernels/reduce.h"

#include "kernels/reduce_walk.h"

namespace mpt::cuda {
namespace {

template <bool Maximum>
__device__ __forceinline__ float start_value() {
  return Maximum ? float_of(0xff800000u) : 0.0f;
}

template <bool Maximum>
__device__ __forceinline__ float combined(float a, float b) {
  if (Maximum) return Max{}(a, b);
  return a + b;
}

template <bool Maximum>
struct Combine {
  __device__ __forceinline__ float operator()(float a, float b) const { return combined<Maximum>(a, b); }
};

template <bool Maximum>
__device__ __forceinline__ float combined(const float (&x)[vector_length]) {
  if (!Maximum) return sum_of_vector(x);
  float top = x[0];
  MPT_UNROLL
  for (int k = 1; k < vector_length; ++k) top = combined<Maximum>(top, x[k]);
  return top;
}

template <bool Maximum>
__global__ void __launch_bounds__(reduce_threads)
    reduce_runs(ReduceShape s, ReduceArgs a, RunsPlan p, RowAccess access) {
  MPT_SHARED(float, room, reduce_threads / warp_size);
  const Unit unit = unit_of_thread(s, p);
  float result = start_value<Maximum>();
  for_piece(s, p, unit, access, [&](const Row& row, int64_t) {
    float x[run_vectors][vector_length];
    load_row(a.x, a.x_type, row, start_value<Maximum>(), x);
    MPT_UNROLL
    for (int j = 0; j < run_vectors; ++j) result = combined<Maximum>(result, combined<Maximum>(x[j]));
  });
  result = group_reduce(Combine<Maximum>{}, result, p.lanes * p.lines, room);
  if (unit.exists && unit.lane + unit.line == 0)
    store_element(a.y, a.y_type, unit.output * p.pieces + unit.piece, a.divisor == 1 ? result : result / a.divisor);
}

template <bool Maximum, int Width>
__global__ void __launch_bounds__(reduce_threads, 3)
    reduce_columns(ReduceShape s, ReduceArgs a, ColumnsPlan p, bool aligned) {
  MPT_SHARED(float, room, (reduce_threads * Width));
  const ColumnBlock b = column_block(s, p);
  float results[Width];
  MPT_UNROLL
  for (int k = 0; k < Width; ++k) results[k] = start_value<Maximum>();
  if (b.output < s.outputs) {
    const int64_t base = offset_of_column(s, b.output);
    // Of one column eight rows at once, of eight columns four.
    constexpr int step = Width == 1 ? vector_length : 4;
    for (int64_t r = b.first + b.line * step; r < b.last; r += p.lines * step) {
      int64_t at[step];
      MPT_UNROLL
      for (int i = 0; i < step; ++i) at[i] = base + offset_of(s.reduced, r + i);
      if constexpr (Width == 1) {
        float x[vector_length];
        load_elements(a.x, a.x_type, at, static_cast<int32_t>(b.last - r < step ? b.last - r : step),
                      start_value<Maximum>(), x);
        results[0] = combined<Maximum>(results[0], combined<Maximum>(x));
      } else {
        float x[step][vector_length];
        int32_t count[step];
        MPT_UNROLL
        for (int i = 0; i < step; ++i) count[i] = r + i < b.last ? vector_length : 0;
        load_vectors(a.x, a.x_type, aligned, at, 1, count, start_value<Maximum>(), x);
        MPT_UNROLL
        for (int k = 0; k < vector_length; ++k)
          results[k] = combined<Maximum>(
              results[k], combined<Maximum>(combined<Maximum>(x[0][k], x[1][k]), combined<Maximum>(x[2][k], x[3][k])));
      }
    }
  }
  MPT_UNROLL
  for (int k = 0; k < Width; ++k) room[(b.line * Width + k) * warp_size + b.lane] = results[k];
  __syncthreads();
  const int64_t first_output = b.output - b.lane * Width;
  for (int i = static_cast<int>(threadIdx.x); i < warp_size * Width; i += static_cast<int>(blockDim.x)) {
    const int64_t output = first_output + i;
    if (output >= s.outputs) break;
    const int at = i % Width * warp_size + i / Width;
    float result = room[at];
    for (int line = 1; line < p.lines; ++line) result = combined<Maximum>(result, room[line * Width * warp_size + at]);
    store_element(a.y, a.y_type, b.chunk * s.outputs + output, a.divisor == 1 ? result : result / a.divisor);
  }
}

__global__ void fill_outputs(void* y, Element type, int64_t outputs, float value) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < outputs) store_element(y, type, i, value);
}

void launch_runs(const ReduceShape& s, const ReduceArgs& a, const RunsPlan& p, Stream stream) {
  launch(a.max ? reduce_runs<true> : reduce_runs<false>, grid_of(s, p), dim3(reduce_threads), 0, stream, s, a, p,
         row_access(s.run, a.x));
}

int32_t width_of(const ReduceShape& s) { return s.run % vector_length == 0 ? vector_length : 1; }

void launch_columns(const ReduceShape& s, const ReduceArgs& a, const ColumnsPlan& p, Stream stream) {
  const auto kernel = p.width == 1 ? a.max ? reduce_columns<true, 1> : reduce_columns<false, 1>
                      : a.max      ? reduce_columns<true, vector_length>
                                   : reduce_columns<false, vector_length>;
  launch(kernel, dim3(static_cast<unsigned>(p.blocks * p.chunks)), dim3(static_cast<unsigned>(p.lines * warp_size)), 0,
         stream, s, a, p, is_aligned(a.x));
}

// The arguments of the passes: from x to the parts, and from these to y.
ReduceArgs to_parts(ReduceArgs a) {
  a.y = a.scratch;
  a.y_type = Element::f32;
  a.divisor = 1;
  return a;
}
ReduceArgs from_parts(ReduceArgs a) {
  a.x = a.scratch;
  a.x_type = Element::f32;
  return a;
}

}  // namespace

uint64_t reduce_scratch(const ReduceShape& s) {
  const int64_t pieces = s.run_is_kept ? columns_plan(s, width_of(s), true).chunks : runs_plan(s, true).pieces;
  return pieces == 1 ? 0 : static_cast<uint64_t>(pieces * s.outputs) * sizeof(float);
}

void reduce(const ReduceShape& s, const ReduceArgs& a, Stream stream) {
  if (s.run_is_kept) {
    const ColumnsPlan plan = columns_plan(s, width_of(s), true);
    if (plan.chunks == 1) return launch_columns(s, a, plan, stream);
    launch_columns(s, to_parts(a), plan, stream);
    const ReduceShape parts{no_walk(), walk_over(plan.chunks, s.outputs), s.outputs, true, s.outputs};
    launch_columns(parts, from_parts(a), columns_plan(parts, width_of(parts), false), stream);
  } else {
    const RunsPlan plan = runs_plan(s, true);
    if (plan.pieces == 1) return launch_runs(s, a, plan, stream);
    launch_runs(s, to_parts(a), plan, stream);
    const ReduceShape parts{walk_over(s.outputs, plan.pieces), no_walk(), plan.pieces, false, s.outputs};
    launch_runs(parts, from_parts(a), runs_plan(parts, false), stream);
  }
}

void reduce_nothing(void* y, Element y_type, int64_t outputs, float value, Stream stream) {
  if (outputs > 0)
    launch(fill_outputs, dim3(blocks_for(outputs, reduce_threads, INT32_MAX)), dim3(reduce_threads), 0, stream, y,
           y_type, outputs, value);
}

}  // namespace mpt::cuda
