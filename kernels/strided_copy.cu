#include "kernels/strided_copy.h"

namespace mpt::cuda {
namespace {

constexpr int threads = 256;
constexpr int units_per_thread = 4;  // on their way at a time

struct Place {
  int64_t from, to;  // units
};

__device__ __forceinline__ Place place_of(const StridedCopyArgs& args, uint32_t i) {
  const uint32_t in_run = args.run.divide(i);
  Place place{in_run, in_run};
  for (int d = args.rank - 1; d >= 0; --d) {
    const uint32_t index = args.axes[d].size.divide(i);
    place.from += index * args.axes[d].from;
    place.to += index * args.axes[d].to;
  }
  return place;
}

template <typename Unit, bool fill>
__global__ void __launch_bounds__(threads) copy_kernel(StridedCopyArgs args) {
  const uint32_t first = blockIdx.x * (threads * units_per_thread) + threadIdx.x;
  Unit unit[units_per_thread];
  int64_t to[units_per_thread];
  MPT_UNROLL
  for (int k = 0; k < units_per_thread; ++k) {
    const uint32_t i = first + static_cast<uint32_t>(k * threads);
    if (i >= args.units) continue;
    const Place place = place_of(args, i);
    to[k] = place.to;
    unit[k] = fill ? *reinterpret_cast<const Unit*>(&args.value) : static_cast<const Unit*>(args.from)[place.from];
  }
  MPT_UNROLL
  for (int k = 0; k < units_per_thread; ++k)
    if (first + static_cast<uint32_t>(k * threads) < args.units) static_cast<Unit*>(args.to)[to[k]] = unit[k];
}

// A unit is one element or eight.
template <bool eight>
__global__ void __launch_bounds__(threads) convert_kernel(StridedCopyArgs args) {
  const uint32_t i = blockIdx.x * threads + threadIdx.x;
  if (i >= args.units) return;
  const Place place = place_of(args, i);
  if (eight) {
    float x[vector_length];
    load_vector(args.from, args.from_type, place.from * vector_length, x);
    store_vector(args.to, args.to_type, place.to * vector_length, x);
  } else {
    store_element(args.to, args.to_type, place.to, load_element(args.from, args.from_type, place.from));
  }
}

template <typename Unit>
void copy(const StridedCopyArgs& args, Stream stream) {
  const unsigned blocks = blocks_for(args.units, threads * units_per_thread, INT32_MAX);
  launch(args.from == nullptr ? copy_kernel<Unit, true> : copy_kernel<Unit, false>, blocks, threads, 0, stream, args);
}

}  // namespace

void strided_copy(const StridedCopyArgs& args, Stream stream) {
  if (args.units == 0) return;
  if (args.convert) {
    const unsigned blocks = blocks_for(args.units, threads, INT32_MAX);
    launch(args.unit == vector_length ? convert_kernel<true> : convert_kernel<false>, blocks, threads, 0, stream, args);
    return;
  }
  switch (args.unit) {
    case 1:
      return copy<uint8_t>(args, stream);
    case 2:
      return copy<uint16_t>(args, stream);
    case 4:
      return copy<uint32_t>(args, stream);
    case 8:
      return copy<uint2>(args, stream);
    default:
      return copy<uint4>(args, stream);
  }
}

}  // namespace mpt::cuda
