#include "kernels/index_sort.h"

#include "kernels/block_reduce.h"

namespace mpt::cuda {
namespace {

constexpr int threads = 256;
constexpr int warps = threads / warp_size;
constexpr int rounds = sort_tile / threads;  // elements of a thread
static_assert(threads == sort_digits);       // a thread to each digit

// What a pass reads: the indices at first, then what the pass before left.
struct Source {
  const int32_t* indices;
  const uint32_t *keys, *order;
  int32_t n, count;

  __device__ __forceinline__ uint32_t key(int i) const {
    if (indices == nullptr) return keys[i];
    const int32_t index = indices[i];
    return static_cast<uint32_t>(index >= 0 && index < count ? index : count);
  }
  __device__ __forceinline__ uint32_t position(int i) const {
    return indices == nullptr ? order[i] : static_cast<uint32_t>(i);
  }
};

__device__ __forceinline__ uint32_t digit_of(uint32_t key, int shift) { return key >> shift & (sort_digits - 1); }

// How often each digit occurs in each tile: counters[digit][tile].
__global__ void __launch_bounds__(threads) count_kernel(Source source, int shift, uint32_t* counters) {
  MPT_SHARED(unsigned, counts, sort_digits);
  const int thread = static_cast<int>(threadIdx.x), tile = static_cast<int>(blockIdx.x);
  counts[thread] = 0;
  __syncthreads();
  for (int k = 0; k < rounds; ++k) {
    const int64_t i = static_cast<int64_t>(tile) * sort_tile + k * threads + thread;
    if (i < source.n) atomicAdd(counts + digit_of(source.key(static_cast<int>(i)), shift), 1u);
  }
  __syncthreads();
  counters[static_cast<int64_t>(thread) * gridDim.x + tile] = counts[thread];
}

// Each counter becomes the sum of those before it. One block.
constexpr int scan_threads = 1024;
__global__ void __launch_bounds__(scan_threads) scan_kernel(uint32_t* counters, int64_t n) {
  MPT_SHARED(uint32_t, sums, scan_threads / warp_size);
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  uint32_t before = 0;
  for (int64_t first = 0; first < n; first += scan_threads) {
    const int64_t i = first + threadIdx.x;
    const uint32_t own = i < n ? counters[i] : 0;
    uint32_t sum = own;
    for (int distance = 1; distance < warp_size; distance *= 2) {
      const uint32_t other = __shfl_up_sync(full_warp, sum, static_cast<unsigned>(distance));
      if (lane >= distance) sum += other;
    }
    if (lane == warp_size - 1) sums[warp] = sum;
    __syncthreads();
    uint32_t of_warps = 0, total = 0;
    for (int w = 0; w < scan_threads / warp_size; ++w) {
      if (w < warp) of_warps += sums[w];
      total += sums[w];
    }
    if (i < n) counters[i] = before + of_warps + sum - own;
    before += total;
    __syncthreads();
  }
}

// A warp takes 256 elements of the tile in order, 32 at a time, and counts its digits as it goes: an element's place is the
// number of equal digits before it, in the tiles, the warps, the rounds and the lanes before its own.
__global__ void __launch_bounds__(threads)
    scatter_kernel(Source source, int shift, const uint32_t* counters, uint32_t* keys, uint32_t* order) {
  MPT_SHARED(uint32_t, counts, warps * sort_digits);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % warp_size, warp = thread / warp_size;
  const int64_t tile = blockIdx.x;
  for (int w = 0; w < warps; ++w) counts[w * sort_digits + thread] = 0;
  __syncthreads();
  uint32_t* own = counts + warp * sort_digits;
  uint32_t key[rounds], place[rounds];
  MPT_UNROLL
  for (int k = 0; k < rounds; ++k) {
    const int64_t i = tile * sort_tile + (warp * rounds + k) * warp_size + lane;
    const bool exists = i < source.n;
    key[k] = exists ? source.key(static_cast<int>(i)) : 0;
    const uint32_t digit = digit_of(key[k], shift);
    const unsigned equal = __match_any_sync(full_warp, exists ? digit : static_cast<uint32_t>(sort_digits));
    const uint32_t before = exists ? own[digit] : 0;
    __syncwarp();
    const unsigned lower = equal & ((1u << lane) - 1);
    if (exists && lower == 0) own[digit] = before + static_cast<uint32_t>(__popc(equal));
    __syncwarp();
    place[k] = before + static_cast<uint32_t>(__popc(lower));
  }
  __syncthreads();
  uint32_t at = counters[static_cast<int64_t>(thread) * gridDim.x + tile];
  for (int w = 0; w < warps; ++w) {
    const uint32_t count = counts[w * sort_digits + thread];
    counts[w * sort_digits + thread] = at;
    at += count;
  }
  __syncthreads();
  MPT_UNROLL
  for (int k = 0; k < rounds; ++k) {
    const int64_t i = tile * sort_tile + (warp * rounds + k) * warp_size + lane;
    if (i >= source.n) continue;
    const uint32_t to = own[digit_of(key[k], shift)] + place[k];
    keys[to] = key[k];
    order[to] = source.position(static_cast<int>(i));
  }
}

// The first place of each index and of `count`, by bisection.
__global__ void __launch_bounds__(threads)
    starts_kernel(const uint32_t* keys, int32_t n, int32_t count, int32_t* starts) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (index > count) return;
  int32_t low = 0, high = n;
  while (low < high) {
    const int32_t middle = low + (high - low) / 2;
    if (keys[middle] < static_cast<uint32_t>(index))
      low = middle + 1;
    else
      high = middle;
  }
  starts[index] = low;
}

}  // namespace

SortedIndices sort_indices(const IndexSort& sort, Stream stream) {
  const auto tiles = static_cast<unsigned>(sort_tiles(sort.n));
  Source source{sort.indices, nullptr, nullptr, sort.n, sort.count};
  int to = 0;
  for (int shift = 0; shift == 0 || sort.count >> shift > 0; shift += 8) {
    if (tiles > 0) {
      launch(count_kernel, tiles, threads, 0, stream, source, shift, sort.counters);
      launch(scan_kernel, 1, scan_threads, 0, stream, sort.counters, int64_t{sort_digits} * tiles);
      launch(scatter_kernel, tiles, threads, 0, stream, source, shift, sort.counters, sort.keys[to], sort.order[to]);
    }
    source.indices = nullptr;
    source.keys = sort.keys[to];
    source.order = sort.order[to];
    to = 1 - to;
    if (shift == 24) break;
  }
  launch(starts_kernel, blocks_for(int64_t{sort.count} + 1, threads, INT32_MAX), threads, 0, stream, source.keys,
         sort.n, sort.count, sort.starts);
  return {source.keys, source.order, sort.starts};
}

}  // namespace mpt::cuda
