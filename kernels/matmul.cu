#include "kernels/matmul.h"

#include "kernels/block_reduce.h"

namespace mpt::cuda {
namespace {

struct Matrices {
  int64_t a, b, d;  // offsets
};

__device__ __forceinline__ Matrices matrices_of(const MatmulArgs& args, int64_t item) {
  Matrices at{0, 0, item * args.m * args.n};
  int64_t rest = args.first_item + item;
  for (int axis = args.axes - 1; axis >= 0; --axis) {
    const int64_t outer = quotient(rest, args.size[axis]);
    const int64_t position = rest - outer * args.size[axis].value;
    at.a += position * args.stride_a[axis];
    at.b += position * args.stride_b[axis];
    rest = outer;
  }
  return at;
}

// ---- tiles: a block makes tile_m x tile_n elements of D, a thread 8 x 4 of them, from tiles of A and B in shared
// memory, two of each by turns: one is read while the next is on its way.

constexpr int tile_m = 64, tile_n = 64, tile_k = 16, tile_threads = 128;
constexpr int own_m = 8, own_n = 4, threads_n = tile_n / own_n;
constexpr int tile_pad = 4;  // keeps rows aligned to 16 bytes, and spreads the stores of a column over the banks
constexpr int staged = tile_m * tile_k / tile_threads;

// Which elements of tile_m rows of A (columns of B) by tile_k a thread carries: number s is at (w + s * next_w, l + s *
// next_l). Neighbouring threads take neighbouring addresses.
struct Place {
  int w, l, next_w, next_l;
};
__device__ __forceinline__ Place place_of(bool k_is_contiguous) {
  const int thread = static_cast<int>(threadIdx.x);
  if (k_is_contiguous) return {thread / tile_k, thread % tile_k, tile_threads / tile_k, 0};
  return {thread % tile_m, thread / tile_m, 0, tile_threads / tile_m};
}

// at: offset of element 0, next: from one to the next. w_left, l_left: the matrix's end as seen from the tile.
__device__ __forceinline__ void fetch_tile(const void* x, Element type, int64_t at, int64_t next, const Place& place,
                                           int w_left, int l_left, float (&to)[staged]) {
#pragma unroll
  for (int s = 0; s < staged; ++s) {
    const bool inside = place.w + s * place.next_w < w_left && place.l + s * place.next_l < l_left;
    to[s] = inside ? load_element(x, type, at) : 0.0f;
    at += next;
  }
}

__device__ __forceinline__ void put_tile(const float (&from)[staged], const Place& place, float* tile) {
  float* to = tile + place.l * (tile_m + tile_pad) + place.w;
  const int next = place.next_l * (tile_m + tile_pad) + place.next_w;
#pragma unroll
  for (int s = 0; s < staged; ++s) to[s * next] = from[s];
}

__device__ __forceinline__ int at_most(int64_t n, int most) { return n < most ? static_cast<int>(n) : most; }

__device__ __forceinline__ void read4(const float* tile, float* to) {
  const Words4 words = *reinterpret_cast<const Words4*>(tile);
#pragma unroll
  for (int j = 0; j < 4; ++j) to[j] = float_of(words.v[j]);
}

__global__ void __launch_bounds__(tile_threads, 4) tiled_kernel(const MPT_GRID_CONSTANT MatmulArgs args) {
  static_assert(tile_m == tile_n && (tile_m / own_m) * threads_n == tile_threads);
  constexpr int tile_floats = tile_k * (tile_m + tile_pad);
  MPT_SHARED(Words4, memory, 4 * tile_floats / 4);
  float* const tiles = reinterpret_cast<float*>(memory);
  float* const tiles_a = tiles;
  float* const tiles_b = tiles + 2 * tile_floats;

  const int64_t columns = (args.n + tile_n - 1) / tile_n;
  const int64_t row = static_cast<int64_t>(blockIdx.x) / columns * tile_m;
  const int64_t column = static_cast<int64_t>(blockIdx.x) % columns * tile_n;
  const int own_row = static_cast<int>(threadIdx.x) / threads_n * own_m;
  const int own_column = static_cast<int>(threadIdx.x) % threads_n * own_n;
  const Place place_a = place_of(args.column_a == 1), place_b = place_of(args.row_b == 1);
  const int64_t next_of_a = place_a.next_w * args.row_a + place_a.next_l * args.column_a;
  const int64_t next_of_b = place_b.next_w * args.column_b + place_b.next_l * args.row_b;
  const int rows_left = at_most(args.m - row, tile_m), columns_left = at_most(args.n - column, tile_n);
  const int64_t steps = (args.k + tile_k - 1) / tile_k;

  for (int64_t item = blockIdx.z; item < args.items; item += gridDim.z) {
    const Matrices at = matrices_of(args, item);
    float sums[own_m][own_n];
#pragma unroll
    for (int i = 0; i < own_m; ++i)
#pragma unroll
      for (int j = 0; j < own_n; ++j) sums[i][j] = 0;

    float next_a[staged], next_b[staged];
    int64_t from_a = at.a + (row + place_a.w) * args.row_a + place_a.l * args.column_a;
    int64_t from_b = at.b + (column + place_b.w) * args.column_b + place_b.l * args.row_b;
    int64_t k_left = args.k;
    const auto fetch = [&] {
      const int l_left = at_most(k_left, tile_k);
      fetch_tile(args.a, args.type_a, from_a, next_of_a, place_a, rows_left, l_left, next_a);
      fetch_tile(args.b, args.type_b, from_b, next_of_b, place_b, columns_left, l_left, next_b);
      from_a += tile_k * args.column_a;
      from_b += tile_k * args.row_b;
      k_left -= tile_k;
    };
    if (steps > 0) fetch();
    for (int64_t step = 0; step < steps; ++step) {
      const int turn = static_cast<int>(step % 2) * tile_floats;
      put_tile(next_a, place_a, tiles_a + turn);
      put_tile(next_b, place_b, tiles_b + turn);
      __syncthreads();  // the tile of two steps ago was read before the last barrier
      if (step + 1 < steps) fetch();
#pragma unroll 4
      for (int l = 0; l < tile_k; ++l) {
        float a[own_m], b[own_n];
        const float* own_a = tiles_a + turn + l * (tile_m + tile_pad) + own_row;
        read4(own_a, a);
        read4(own_a + 4, a + 4);
        read4(tiles_b + turn + l * (tile_n + tile_pad) + own_column, b);
#pragma unroll
        for (int i = 0; i < own_m; ++i)
#pragma unroll
          for (int j = 0; j < own_n; ++j) sums[i][j] = fused_multiply_add(a[i], b[j], sums[i][j]);
      }
    }
    __syncthreads();  // before the next item's tiles

#pragma unroll
    for (int i = 0; i < own_m; ++i) {
      const int64_t y = row + own_row + i;
#pragma unroll
      for (int j = 0; j < own_n; ++j) {
        const int64_t x = column + own_column + j;
        if (y < args.m && x < args.n) store_element(args.d, args.type_d, at.d + y * args.n + x, sums[i][j]);
      }
    }
  }
}

// ---- narrow products: a warp for each element of D, where both operands are contiguous along k.

constexpr int dot_threads = 256;

__global__ void __launch_bounds__(dot_threads) dot_kernel(const MPT_GRID_CONSTANT MatmulArgs args) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (dot_threads / warp_size);
  const int64_t matrix = args.m * args.n;
  for (int64_t e = static_cast<int64_t>(blockIdx.x) * (dot_threads / warp_size) + threadIdx.x / warp_size;
       e < args.items * matrix; e += warps) {
    const int64_t item = e / matrix, row = e % matrix / args.n, column = e % args.n;
    const Matrices at = matrices_of(args, item);
    const int64_t a = at.a + row * args.row_a, b = at.b + column * args.column_b;
    float sums[4] = {0, 0, 0, 0};
    for (int64_t l = lane; l < args.k; l += 4 * warp_size) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int64_t at_k = l + j * warp_size;
        if (at_k < args.k)
          sums[j] = fused_multiply_add(load_element(args.a, args.type_a, a + at_k),
                                       load_element(args.b, args.type_b, b + at_k), sums[j]);
      }
    }
    const float sum = warp_reduce(Sum{}, (sums[0] + sums[1]) + (sums[2] + sums[3]));
    if (lane == 0) store_element(args.d, args.type_d, e, sum);
  }
}

}  // namespace

void matmul(const MatmulArgs& args, Stream stream) {
  if (args.m == 0 || args.n == 0 || args.items == 0) return;
  const bool is_narrow = args.m <= 4 || args.n <= 4;
  if (is_narrow && args.column_a == 1 && args.row_b == 1) {
    const unsigned blocks = blocks_for(args.items * args.m * args.n, dot_threads / warp_size);
    launch(dot_kernel, dim3(blocks), dim3(dot_threads), 0, stream, args);
    return;
  }
  const int64_t tiles = ((args.m + tile_m - 1) / tile_m) * ((args.n + tile_n - 1) / tile_n);
  const unsigned items = static_cast<unsigned>(args.items < 65535 ? args.items : 65535);
  launch(tiled_kernel, dim3(blocks_for(tiles, 1, 0x7fffffff), 1, items), dim3(tile_threads), 0, stream, args);
}

}  // namespace mpt::cuda
