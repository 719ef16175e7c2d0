#include "kernels/gather.h"

namespace mpt::cuda {
namespace {

constexpr int threads = 256;
constexpr int units_per_thread = 4;  // on their way at a time

// One launch: rows first_row .. of y.
struct Rows {
  int64_t first;
  uint32_t units;
  Divider row;
};

struct Pick {
  int64_t from, to;  // units; from < 0: zeros
};

__device__ __forceinline__ Pick pick_of(const GatherArgs& args, const Rows& rows, uint32_t i) {
  const uint32_t unit = rows.row.divide(i);
  const int64_t row = rows.first + i;
  const int64_t outer = args.outer == 1 ? 0 : row / args.picks;
  const int64_t index = args.indices[row - outer * args.picks];
  const bool inside = index >= 0 && index < args.count;
  return {inside ? (outer * args.count + index) * args.row + unit : -1, row * args.row + unit};
}

template <typename Unit>
__global__ void __launch_bounds__(threads) gather_kernel(GatherArgs args, Rows rows) {
  const uint32_t first = blockIdx.x * (threads * units_per_thread) + threadIdx.x;
  Unit unit[units_per_thread];
  int64_t to[units_per_thread];
  MPT_UNROLL
  for (int k = 0; k < units_per_thread; ++k) {
    const uint32_t i = first + static_cast<uint32_t>(k * threads);
    if (i >= rows.units) continue;
    const Pick pick = pick_of(args, rows, i);
    to[k] = pick.to;
    unit[k] = pick.from < 0 ? Unit{} : static_cast<const Unit*>(args.x)[pick.from];
  }
  MPT_UNROLL
  for (int k = 0; k < units_per_thread; ++k)
    if (first + static_cast<uint32_t>(k * threads) < rows.units) static_cast<Unit*>(args.y)[to[k]] = unit[k];
}

template <bool eight>
__global__ void __launch_bounds__(threads) convert_kernel(GatherArgs args, Rows rows) {
  const uint32_t i = blockIdx.x * threads + threadIdx.x;
  if (i >= rows.units) return;
  const Pick pick = pick_of(args, rows, i);
  if (eight) {
    float x[vector_length] = {};
    if (pick.from >= 0) load_vector(args.x, args.x_type, pick.from * vector_length, x);
    store_vector(args.y, args.y_type, pick.to * vector_length, x);
  } else {
    store_element(args.y, args.y_type, pick.to, pick.from < 0 ? 0 : load_element(args.x, args.x_type, pick.from));
  }
}

}  // namespace

void gather(const GatherArgs& args, Stream stream) {
  if (args.row == 0) return;
  const int64_t all = args.outer * args.picks, most = INT32_MAX / args.row;
  for (int64_t first = 0; first < all; first += most) {
    const int64_t n = all - first < most ? all - first : most;
    const Rows rows{first, static_cast<uint32_t>(n * args.row), Divider(static_cast<uint32_t>(args.row))};
    const unsigned blocks = blocks_for(rows.units, threads * units_per_thread, INT32_MAX);
    if (args.convert) {
      launch(args.unit == vector_length ? convert_kernel<true> : convert_kernel<false>,
             blocks_for(rows.units, threads, INT32_MAX), threads, 0, stream, args, rows);
      continue;
    }
    switch (args.unit) {
      case 1:
        launch(gather_kernel<uint8_t>, blocks, threads, 0, stream, args, rows);
        break;
      case 2:
        launch(gather_kernel<uint16_t>, blocks, threads, 0, stream, args, rows);
        break;
      case 4:
        launch(gather_kernel<uint32_t>, blocks, threads, 0, stream, args, rows);
        break;
      case 8:
        launch(gather_kernel<uint2>, blocks, threads, 0, stream, args, rows);
        break;
      default:
        launch(gather_kernel<uint4>, blocks, threads, 0, stream, args, rows);
    }
  }
}

}  // namespace mpt::cuda
