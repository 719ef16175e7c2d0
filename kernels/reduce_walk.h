// How reductions walk their input. A thread's share, and with it the order of sums, depends on the shape alone.
#pragma once

#include "kernels/reduce.h"
#include "kernels/rows.h"

namespace mpt::cuda {

constexpr int reduce_threads = 256;       // of a block
constexpr int64_t reduce_blocks = 1024;   // about as many as a device needs: outputs that are fewer are cut into pieces
constexpr int64_t least_of_piece = 8192;  // elements: so that the pieces' sums are few beside them

__device__ __forceinline__ int64_t offset_of(const AxisWalk& walk, int64_t position) {
  if (walk.rank == 0) return 0;
  if (walk.rank == 1) return position * walk.stride[0];
  int64_t offset = 0;
  if (walk.count <= INT32_MAX) {  // much faster to divide
    uint32_t rest = static_cast<uint32_t>(position);
    for (int d = walk.rank - 1; d > 0; --d) {
      const uint32_t size = static_cast<uint32_t>(walk.size[d]);
      offset += rest % size * walk.stride[d];
      rest /= size;
    }
    return offset + rest * walk.stride[0];
  }
  for (int d = walk.rank - 1; d > 0; --d) {
    offset += position % walk.size[d] * walk.stride[d];
    position /= walk.size[d];
  }
  return offset + position * walk.stride[0];
}

inline AxisWalk walk_over(int64_t size, int64_t stride) {
  AxisWalk walk{};
  walk.rank = 1;
  walk.size[0] = walk.count = size;
  walk.stride[0] = stride;
  return walk;
}
inline AxisWalk no_walk() {
  AxisWalk walk{};
  walk.count = 1;
  return walk;
}

// ---- the innermost axis is reduced: an output is made of contiguous runs

// A piece is part of one run, or several whole ones. A unit of threads makes it: `lines` groups, each of which has a run in
// `lanes` threads.
struct RunsPlan {
  int64_t part, parts;   // elements of a run in a piece; pieces of a run
  int64_t runs, pieces;  // runs in a piece; pieces of an output
  int32_t lanes, lines;
};

constexpr int run_vectors = 2;

inline RunsPlan runs_plan(const ReduceShape& s, bool cut) {
  RunsPlan p{};
  const int64_t count = s.reduced.count, total = count * s.run;
  int64_t want = cut ? reduce_blocks / s.outputs : 1;
  if (want > total / least_of_piece) want = total / least_of_piece;
  if (want < 1) want = 1;
  p.parts = pieces_of(want, count);
  const int64_t fewest = pieces_of(s.run, int64_t{1} << 30);  // elements of a part are counted in 32 bits
  if (p.parts < fewest) p.parts = fewest;
  p.part = pieces_of(pieces_of(s.run, p.parts), vector_length) * vector_length;
  p.parts = pieces_of(s.run, p.part);
  p.runs = p.parts > 1 ? 1 : pieces_of(count, want);
  p.pieces = p.parts * pieces_of(count, p.runs);
  p.lanes = power_of_two_from(pieces_of(p.part < s.run ? p.part : s.run, run_vectors * vector_length));
  if (p.lanes > reduce_threads) p.lanes = reduce_threads;
  p.lines = power_of_two_from(p.runs);
  if (p.lines > reduce_threads / p.lanes) p.lines = reduce_threads / p.lanes;
  return p;
}

// A thread's unit and its place in it.
struct Unit {
  int64_t output, piece;
  int32_t lane, line;
  bool exists;
};

__device__ __forceinline__ Unit unit_of_thread(const ReduceShape& s, const RunsPlan& p) {
  const int32_t threads = p.lanes * p.lines, thread = static_cast<int32_t>(threadIdx.x);
  const int64_t number = static_cast<int64_t>(blockIdx.x) * (reduce_threads / threads) + thread / threads;
  const int32_t inside = thread & (threads - 1);
  return {number / p.pieces, number % p.pieces, inside & (p.lanes - 1), inside / p.lanes,
          number < s.outputs * p.pieces};
}

inline dim3 grid_of(const ReduceShape& s, const RunsPlan& p) {
  return dim3(blocks_for(s.outputs * p.pieces, reduce_threads / (p.lanes * p.lines), INT32_MAX));
}

// Calls f(row, position) for the thread's share of its piece: positions in the order of the reduced axes, that of the row's
// first element, and ascending for each thread.
template <typename F>
__device__ __forceinline__ void for_piece(const ReduceShape& s, const RunsPlan& p, const Unit& unit, RowAccess access,
                                          F f) {
  if (!unit.exists) return;
  const int64_t base = offset_of(s.kept, unit.output);
  const int64_t first = unit.piece / p.parts * p.runs, skip = unit.piece % p.parts * p.part;
  const int64_t last = first + p.runs < s.reduced.count ? first + p.runs : s.reduced.count;
  const int32_t n = static_cast<int32_t>(p.part < s.run - skip ? p.part : s.run - skip);
  for (int64_t r = first + unit.line; r < last; r += p.lines) {
    const Row row{base + offset_of(s.reduced, r) + skip, n, p.lanes, unit.lane, access};
    for (int32_t begin = 0; begin < n; begin += p.lanes * run_vectors * vector_length)
      f(row.from(begin), r * s.run + skip + begin);
  }
}

// ---- the innermost axis is kept: rows are added to each other

// Outputs are columns; a warp's lanes have neighbouring ones, `width` each. Rows are cut into chunks, those of a chunk are
// shared by the block's warps.
struct ColumnsPlan {
  int32_t width, lines;
  int64_t blocks;         // across the columns
  int64_t chunk, chunks;  // rows
};

inline ColumnsPlan columns_plan(const ReduceShape& s, int32_t width, bool cut) {
  ColumnsPlan p{};
  const int64_t rows = s.reduced.count, step = width == 1 ? vector_length : 4;  // rows that a thread reads at once
  p.width = width;
  p.lines = power_of_two_from(pieces_of(rows, step));
  if (p.lines > reduce_threads / warp_size) p.lines = reduce_threads / warp_size;
  p.blocks = pieces_of(s.outputs, warp_size * width);
  int64_t want = cut ? reduce_blocks / p.blocks : 1, most = rows / (p.lines * step * 2);
  if (want > most) want = most;
  p.chunk = want > 1 ? pieces_of(rows, want) : rows;
  p.chunks = pieces_of(rows, p.chunk);
  return p;
}

struct ColumnBlock {
  int64_t output, chunk;  // the thread's first column
  int64_t first, last;    // rows
  int32_t lane, line;
};

__device__ __forceinline__ ColumnBlock column_block(const ReduceShape& s, const ColumnsPlan& p) {
  ColumnBlock b;
  b.lane = static_cast<int32_t>(threadIdx.x) % warp_size;
  b.line = static_cast<int32_t>(threadIdx.x) / warp_size;
  const uint32_t blocks = static_cast<uint32_t>(p.blocks);
  b.output = (static_cast<int64_t>(blockIdx.x % blocks) * warp_size + b.lane) * p.width;
  b.chunk = blockIdx.x / blocks;
  b.first = b.chunk * p.chunk;
  b.last = b.first + p.chunk < s.reduced.count ? b.first + p.chunk : s.reduced.count;
  return b;
}

__device__ __forceinline__ int64_t offset_of_column(const ReduceShape& s, int64_t output) {
  if (s.kept.count == 1) return output;
  return offset_of(s.kept, output / s.run) + output % s.run;
}

}  // namespace mpt::cuda
