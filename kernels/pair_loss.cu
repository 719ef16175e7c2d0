// A thread takes eight neighbours at a time. Sums of eight are added in double: a thread's, a block's, then the blocks'.
#include "kernels/pair_loss.h"

#include "kernels/numerics/pair_loss.h"
#include "kernels/rows.h"

namespace mpt::cuda {
namespace {

constexpr int threads = 256, vectors = 2;
constexpr int32_t tile = threads * vectors * vector_length;
constexpr int64_t most_parts = 1024;

// Elements of a block, a multiple of the tile.
int64_t elements_of_part(int64_t elements) { return pieces_of(elements > 0 ? elements : 1, most_parts * tile) * tile; }

struct Tile {
  int64_t at[vectors];
  int32_t count[vectors];
};

// Of the elements below `end`.
__device__ __forceinline__ Tile tile_of_thread(int64_t begin, int64_t end) {
  Tile t;
  MPT_UNROLL
  for (int j = 0; j < vectors; ++j) {
    t.at[j] = begin + (j * threads + static_cast<int>(threadIdx.x)) * vector_length;
    const int64_t rest = end - t.at[j];
    t.count[j] = static_cast<int32_t>(rest < 0 ? 0 : rest < vector_length ? rest : vector_length);
  }
  return t;
}

// The last elements of a tensor go one by one.
__device__ __forceinline__ void load_tile(const void* tensor, Element type, bool aligned, const Tile& t,
                                          float (&x)[vectors][vector_length]) {
  bool whole = aligned;
  MPT_UNROLL
  for (int j = 0; j < vectors; ++j) whole = whole && (t.count[j] == 0 || t.count[j] == vector_length);
  load_vectors(tensor, type, whole, t.at, 1, t.count, 0, x);
}

__device__ __forceinline__ void store_tile(void* tensor, Element type, bool aligned, const Tile& t,
                                           const float (&x)[vectors][vector_length]) {
  MPT_UNROLL
  for (int j = 0; j < vectors; ++j) {
    if (aligned && t.count[j] == vector_length) {
      store_vector(tensor, type, t.at[j], x[j]);
    } else {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k)
        if (k < t.count[j]) store_element(tensor, type, t.at[j] + k, x[j][k]);
    }
  }
}

__device__ __forceinline__ void store_loss(const PairLossArgs& a, double sum) {
  *a.loss = static_cast<float>(a.mean ? sum / static_cast<double>(a.elements) : sum);
}

template <typename Loss>
__global__ void __launch_bounds__(threads) sum_part(PairLossArgs a, int64_t part, bool aligned) {
  MPT_SHARED(double, room, threads / warp_size);
  const int64_t first = blockIdx.x * part, last = first + part < a.elements ? first + part : a.elements;
  double sum = 0;
  for (int64_t begin = first; begin < last; begin += tile) {
    const Tile t = tile_of_thread(begin, last);
    float x[vectors][vector_length], target[vectors][vector_length];
    load_tile(a.x, a.x_type, aligned, t, x);
    load_tile(a.target, a.target_type, aligned, t, target);
    MPT_UNROLL
    for (int j = 0; j < vectors; ++j) {
      MPT_UNROLL
      for (int k = 0; k < vector_length; ++k) x[j][k] = k < t.count[j] ? Loss::value(x[j][k], target[j][k]) : 0.0f;
      sum += sum_of_vector(x[j]);
    }
  }
  sum = block_reduce(Sum{}, sum, room);
  if (threadIdx.x > 0) return;
  if (gridDim.x == 1)
    store_loss(a, sum);
  else
    a.parts[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(threads) sum_parts(PairLossArgs a, int32_t count) {
  MPT_SHARED(double, room, threads / warp_size);
  double sum = 0;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < count; i += threads) sum += a.parts[i];
  sum = block_reduce(Sum{}, sum, room);
  if (threadIdx.x == 0) store_loss(a, sum);
}

template <typename Loss>
__global__ void __launch_bounds__(threads) gradients(PairLossArgs a, bool aligned) {
  const double dloss = *a.dloss;
  const float factor = static_cast<float>(a.mean ? dloss / static_cast<double>(a.elements) : dloss);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * tile;
  for (int64_t begin = static_cast<int64_t>(blockIdx.x) * tile; begin < a.elements; begin += stride) {
    const Tile t = tile_of_thread(begin, a.elements);
    float x[vectors][vector_length], target[vectors][vector_length], d[vectors][vector_length];
    load_tile(a.x, a.x_type, aligned, t, x);
    load_tile(a.target, a.target_type, aligned, t, target);
    if (a.dx != nullptr) {
      MPT_UNROLL
      for (int j = 0; j < vectors; ++j) {
        MPT_UNROLL
        for (int k = 0; k < vector_length; ++k) d[j][k] = factor * Loss::by_x(x[j][k], target[j][k]);
      }
      store_tile(a.dx, a.dx_type, aligned, t, d);
    }
    if (a.dtarget != nullptr) {
      MPT_UNROLL
      for (int j = 0; j < vectors; ++j) {
        MPT_UNROLL
        for (int k = 0; k < vector_length; ++k) d[j][k] = factor * Loss::by_target(x[j][k], target[j][k]);
      }
      store_tile(a.dtarget, a.dtarget_type, aligned, t, d);
    }
  }
}

template <typename Loss>
void launch_loss(const PairLossArgs& a, Stream stream) {
  const int64_t part = elements_of_part(a.elements), count = pair_loss_parts(a.elements);
  const bool aligned = is_aligned(a.x) && is_aligned(a.target);
  launch(sum_part<Loss>, dim3(static_cast<unsigned>(count)), dim3(threads), 0, stream, a, part, aligned);
  if (count > 1) launch(sum_parts, dim3(1), dim3(threads), 0, stream, a, static_cast<int32_t>(count));
}

template <typename Loss>
void launch_gradients(const PairLossArgs& a, Stream stream) {
  const bool aligned = is_aligned(a.x) && is_aligned(a.target) && is_aligned(a.dx) && is_aligned(a.dtarget);
  launch(gradients<Loss>, dim3(blocks_for(a.elements, tile)), dim3(threads), 0, stream, a, aligned);
}

}  // namespace

int64_t pair_loss_parts(int64_t elements) {
  const int64_t parts = pieces_of(elements, elements_of_part(elements));
  return parts < 1 ? 1 : parts;
}

void pair_loss(const PairLossArgs& a, Stream stream) {
  switch (a.kind) {
    case PairLossKind::mse:
      return launch_loss<SquaredError>(a, stream);
    case PairLossKind::l1:
      return launch_loss<AbsoluteError>(a, stream);
    case PairLossKind::bce:
      return launch_loss<BinaryCrossEntropy>(a, stream);
  }
}

void pair_loss_grad(const PairLossArgs& a, Stream stream) {
  switch (a.kind) {
    case PairLossKind::mse:
      return launch_gradients<SquaredError>(a, stream);
    case PairLossKind::l1:
      return launch_gradients<AbsoluteError>(a, stream);
    case PairLossKind::bce:
      return launch_gradients<BinaryCrossEntropy>(a, stream);
  }
}

}  // namespace mpt::cuda
