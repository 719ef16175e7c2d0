#include "kernels/transpose.h"

namespace mpt::cuda {
namespace {

constexpr int threads_x = 32, threads_y = 8;

// Where a block's tile begins.
struct Tile {
  int64_t from, to;  // of the matrix, elements
  int64_t r, c;
};

template <int side>
__device__ __forceinline__ Tile tile_of(const TransposeArgs& args, const Divider& across, const Divider& down) {
  uint32_t i = blockIdx.x;
  Tile tile{0, 0, 0, 0};
  tile.r = static_cast<int64_t>(across.divide(i)) * side;
  tile.c = static_cast<int64_t>(down.divide(i)) * side;
  for (int d = args.rank - 1; d >= 0; --d) {
    const uint32_t index = args.axes[d].size.divide(i);
    tile.from += index * args.axes[d].from;
    tile.to += index * args.axes[d].to;
  }
  return tile;
}

template <typename T>
struct SameType {
  using Held = T;
  __device__ static __forceinline__ T load(const TransposeArgs& args, int64_t i) {
    return static_cast<const T*>(args.from)[i];
  }
  __device__ static __forceinline__ void store(const TransposeArgs& args, int64_t i, T x) {
    static_cast<T*>(args.to)[i] = x;
  }
};
struct Converted {
  using Held = float;
  __device__ static __forceinline__ float load(const TransposeArgs& args, int64_t i) {
    return load_element(args.from, args.from_type, i);
  }
  __device__ static __forceinline__ void store(const TransposeArgs& args, int64_t i, float x) {
    store_element(args.to, args.to_type, i, x);
  }
};

constexpr int side = 32;

template <typename Access>
__global__ void __launch_bounds__(threads_x* threads_y) tile_kernel(TransposeArgs args, Divider across, Divider down) {
  constexpr int pitch = side + 1;  // one more, so that a column lies in 32 banks
  MPT_SHARED(typename Access::Held, held, side * pitch);
  const Tile tile = tile_of<side>(args, across, down);
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const bool in_r = tile.r + x < args.rows, in_c = tile.c + x < args.columns;
  MPT_UNROLL
  for (int k = 0; k < side; k += threads_y)
    if (in_r && tile.c + y + k < args.columns)
      held[(y + k) * pitch + x] = Access::load(args, tile.from + tile.r + x + (tile.c + y + k) * args.from_stride);
  __syncthreads();
  MPT_UNROLL
  for (int k = 0; k < side; k += threads_y)
    if (in_c && tile.r + y + k < args.rows)
      Access::store(args, tile.to + tile.c + x + (tile.r + y + k) * args.to_stride, held[x * pitch + y + k]);
}

constexpr int pair_side = 64;

// Two 2-byte elements at once on both sides. Word w of line c holds (2w, c) and (2w + 1, c); it is kept at w ^ (c / 2), so that
// neither a line's words nor the words of one w in every second line share a bank.
__global__ void __launch_bounds__(threads_x* threads_y) pair_kernel(TransposeArgs args, Divider across, Divider down) {
  constexpr int words = pair_side / 2;
  MPT_SHARED(uint32_t, held, pair_side * words);
  const Tile tile = tile_of<pair_side>(args, across, down);
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const auto* from = reinterpret_cast<const uint32_t*>(static_cast<const uint16_t*>(args.from) + tile.from + tile.r);
  auto* to = reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(args.to) + tile.to + tile.c);
  const bool in_r = tile.r + 2 * x < args.rows, in_c = tile.c + 2 * x < args.columns;
  MPT_UNROLL
  for (int k = 0; k < pair_side; k += threads_y) {
    const int c = y + k;
    if (in_r && tile.c + c < args.columns)
      held[c * words + (x ^ (c / 2))] = from[x + (tile.c + c) * (args.from_stride / 2)];
  }
  __syncthreads();
  MPT_UNROLL
  for (int k = 0; k < words; k += threads_y) {
    const int w = y + k;
    if (!in_c || tile.r + 2 * w >= args.rows) continue;
    const uint32_t low = held[2 * x * words + (w ^ x)], high = held[(2 * x + 1) * words + (w ^ x)];
    uint32_t* line = to + x + (tile.r + 2 * w) * (args.to_stride / 2);
    line[0] = (low & 0xffffu) | high << 16;
    line[args.to_stride / 2] = low >> 16 | (high & 0xffff0000u);
  }
}

void launch_tiles(void (*kernel)(TransposeArgs, Divider, Divider), int tile, const TransposeArgs& args, Stream stream) {
  const auto across = static_cast<uint32_t>((args.rows + tile - 1) / tile);
  const auto down = static_cast<uint32_t>((args.columns + tile - 1) / tile);
  launch(kernel, args.count * across * down, dim3(threads_x, threads_y), 0, stream, args, Divider(across),
         Divider(down));
}

}  // namespace

void transpose(const TransposeArgs& args, Stream stream) {
  if (args.count == 0 || args.rows == 0 || args.columns == 0) return;
  if (args.convert) return launch_tiles(tile_kernel<Converted>, side, args, stream);
  if (args.pairs) return launch_tiles(pair_kernel, pair_side, args, stream);
  switch (args.size) {
    case 1:
      return launch_tiles(tile_kernel<SameType<uint8_t>>, side, args, stream);
    case 2:
      return launch_tiles(tile_kernel<SameType<uint16_t>>, side, args, stream);
    case 4:
      return launch_tiles(tile_kernel<SameType<uint32_t>>, side, args, stream);
    default:
      return launch_tiles(tile_kernel<SameType<uint64_t>>, side, args, stream);
  }
}

}  // namespace mpt::cuda
