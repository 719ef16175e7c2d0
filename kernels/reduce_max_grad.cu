// Two passes: the first finds where each output's maximum is, one place for each of its pieces; the second takes the best of
// them and writes all elements.
#include "kernels/reduce.h"
#include "kernels/reduce_walk.h"

namespace mpt::cuda {
namespace {

constexpr int64_t nowhere = INT64_MAX;

// The largest number seen and its first place.
struct Best {
  float value;
  int64_t at;

  // Places ascend.
  __device__ __forceinline__ void see(float x, int64_t place) {
    if (at == nowhere || x > value || (x != x && value == value)) *this = {x, place};
  }
};

__device__ __forceinline__ Best better(const Best& a, const Best& b) {
  if (a.at == nowhere || b.at == nowhere) return a.at == nowhere ? b : a;
  const bool a_is_nan = a.value != a.value, b_is_nan = b.value != b.value;
  if (a_is_nan != b_is_nan) return a_is_nan ? a : b;
  if (!a_is_nan && a.value != b.value) return a.value > b.value ? a : b;
  return a.at < b.at ? a : b;
}

struct BestRoom {
  float* values;
  int64_t* places;

  __device__ __forceinline__ void put(int64_t i, const Best& best) const {
    values[i] = best.value;
    places[i] = best.at;
  }
  __device__ __forceinline__ Best get(int64_t i) const { return {values[i], places[i]}; }
};

// Over a group of threads; all of them get the result. All threads of the block call. `room`: one for each warp.
__device__ __forceinline__ Best best_of_group(Best x, int32_t threads, const BestRoom& room) {
  for (int distance = (threads < warp_size ? threads : warp_size) / 2; distance > 0; distance /= 2) {
    const float value = __shfl_xor_sync(full_warp, x.value, distance);
    const int64_t at = __shfl_xor_sync(full_warp, x.at, distance);
    x = better(x, {value, at});
  }
  if (threads <= warp_size) return x;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread % warp_size == 0) room.put(thread / warp_size, x);
  __syncthreads();
  const int warps = threads / warp_size, first = thread / threads * warps;
  for (int w = 0; w < warps; ++w) x = better(x, room.get(first + w));
  __syncthreads();
  return x;
}

__global__ void __launch_bounds__(reduce_threads, 2)
    find_in_runs(ReduceShape s, ReduceMaxGradArgs a, RunsPlan p, RowAccess access, BestRoom found) {
  MPT_SHARED(float, values, reduce_threads / warp_size);
  MPT_SHARED(int64_t, places, reduce_threads / warp_size);
  const Unit unit = unit_of_thread(s, p);
  Best best{0, nowhere};
  for_piece(s, p, unit, access, [&](const Row& row, int64_t position) {
    float x[run_vectors][vector_length];
    load_row(a.x, a.x_type, row, 0, x);
    const int32_t held = row.held();
    MPT_UNROLL
    for (int j = 0; j < run_vectors; ++j) {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k)
        if (j * vector_length + k < held) best.see(x[j][k], position + row.index(j, k));
    }
  });
  best = best_of_group(best, p.lanes * p.lines, {values, places});
  if (unit.exists && unit.lane + unit.line == 0) found.put(unit.output * p.pieces + unit.piece, best);
}

__global__ void __launch_bounds__(reduce_threads)
    write_runs(ReduceShape s, ReduceMaxGradArgs a, RunsPlan p, RowAccess access, BestRoom found) {
  MPT_SHARED(float, values, reduce_threads / warp_size);
  MPT_SHARED(int64_t, places, reduce_threads / warp_size);
  const Unit unit = unit_of_thread(s, p);
  const int32_t threads = p.lanes * p.lines;
  Best best{0, nowhere};
  if (unit.exists)
    for (int64_t i = unit.line * p.lanes + unit.lane; i < p.pieces; i += threads)
      best = better(best, found.get(unit.output * p.pieces + i));
  best = best_of_group(best, threads, {values, places});
  const float dy = unit.exists ? load_element(a.dy, a.dy_type, unit.output) : 0.0f;
  for_piece(s, p, unit, access, [&](const Row& row, int64_t position) {
    float dx[run_vectors][vector_length];
    MPT_UNROLL
    for (int j = 0; j < run_vectors; ++j) {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) dx[j][k] = position + row.index(j, k) == best.at ? dy : 0.0f;
    }
    store_row(a.dx, a.dx_type, row, dx);
  });
}

__global__ void __launch_bounds__(reduce_threads)
    find_in_columns(ReduceShape s, ReduceMaxGradArgs a, ColumnsPlan p, BestRoom found) {
  MPT_SHARED(float, values, reduce_threads);
  MPT_SHARED(int64_t, places, reduce_threads);
  const BestRoom room{values, places};
  const ColumnBlock b = column_block(s, p);
  Best best{0, nowhere};
  if (b.output < s.outputs) {
    const int64_t base = offset_of_column(s, b.output);
    for (int64_t r = b.first + b.line * vector_length; r < b.last; r += p.lines * vector_length) {
      int64_t at[vector_length];
      const int32_t count = static_cast<int32_t>(b.last - r < vector_length ? b.last - r : vector_length);
      float x[vector_length];
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) at[k] = base + offset_of(s.reduced, r + k);
      load_elements(a.x, a.x_type, at, count, 0, x);
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k)
        if (k < count) best.see(x[k], r + k);
    }
  }
  room.put(threadIdx.x, best);
  __syncthreads();
  if (b.line > 0 || b.output >= s.outputs) return;
  for (int line = 1; line < p.lines; ++line) best = better(best, room.get(line * warp_size + b.lane));
  found.put(b.chunk * s.outputs + b.output, best);
}

__global__ void __launch_bounds__(reduce_threads)
    write_columns(ReduceShape s, ReduceMaxGradArgs a, ColumnsPlan p, BestRoom found) {
  const ColumnBlock b = column_block(s, p);
  if (b.output >= s.outputs) return;
  Best best{0, nowhere};
  for (int64_t chunk = 0; chunk < p.chunks; ++chunk) best = better(best, found.get(chunk * s.outputs + b.output));
  const float dy = load_element(a.dy, a.dy_type, b.output);
  const int64_t base = offset_of_column(s, b.output);
  for (int64_t r = b.first + b.line; r < b.last; r += p.lines)
    store_element(a.dx, a.dx_type, base + offset_of(s.reduced, r), r == best.at ? dy : 0.0f);
}

int64_t places_of(const ReduceShape& s) {
  return s.outputs * (s.run_is_kept ? columns_plan(s, 1, true).chunks : runs_plan(s, true).pieces);
}

}  // namespace

uint64_t reduce_max_grad_scratch(const ReduceShape& s) {
  return static_cast<uint64_t>(places_of(s)) * (sizeof(int64_t) + sizeof(float));
}

void reduce_max_grad(const ReduceShape& s, const ReduceMaxGradArgs& a, Stream stream) {
  int64_t* places = static_cast<int64_t*>(a.scratch);
  const BestRoom found{reinterpret_cast<float*>(places + places_of(s)), places};
  if (s.run_is_kept) {
    const ColumnsPlan plan = columns_plan(s, 1, true);
    const dim3 grid(static_cast<unsigned>(plan.blocks * plan.chunks)),
        block(static_cast<unsigned>(plan.lines * warp_size));
    launch(find_in_columns, grid, block, 0, stream, s, a, plan, found);
    launch(write_columns, grid, block, 0, stream, s, a, plan, found);
  } else {
    const RunsPlan plan = runs_plan(s, true);
    const RowAccess access = row_access(s.run, a.x, a.dx);
    launch(find_in_runs, grid_of(s, plan), dim3(reduce_threads), 0, stream, s, a, plan, access, found);
    launch(write_runs, grid_of(s, plan), dim3(reduce_threads), 0, stream, s, a, plan, access, found);
  }
}

}  // namespace mpt::cuda
