// The finite check and the norm of all gradients in one read.
#include "kernels/flat_blocks.h"

namespace mpt::cuda {
namespace {

// One lane's chain. A batch of rows is asked for before the first is used.
template <typename T, int batch, bool clip, typename Widen>
__device__ __forceinline__ double chain_of_squares(const T* gradient, int count, int lane,
                                                   const GradientScaling& scaling, Widen widen, bool* suspect) {
  double sum = 0;
  const auto add = [&](T stored) {
    const float g = widen(stored);
    if (clip) *suspect = *suspect || !is_finite(g * scaling.inverse);
    sum = add_square(sum, clip ? scaling(g) : g * scaling.inverse * scaling.clip_factor);
  };
  const unsigned mask = piece_mask();
  int row = 0;  // its first element
  for (; row + batch * piece_lanes <= count; row += batch * piece_lanes) {
    T stored[batch];
    MPT_UNROLL
    for (int j = 0; j < batch; ++j) stored[j] = gradient[row + lane + j * piece_lanes];
    __syncwarp(mask);  // keeps the compiler from asking for them one by one
    MPT_UNROLL
    for (int j = 0; j < batch; ++j) add(stored[j]);
  }
  for (int i = row + lane; i < count; i += piece_lanes) add(gradient[i]);
  return sum;
}

template <bool clip>
__device__ __forceinline__ double chain_of_squares(const PieceArrays& p, int lane, const GradientScaling& scaling,
                                                   bool* suspect) {
  const auto* bits = static_cast<const uint16_t*>(p.gradient);
  switch (p.gradient_type) {
    case Element::f16:
      return chain_of_squares<uint16_t, 32, clip>(
          bits, p.count, lane, scaling, [](uint16_t x) { return f16_to_f32(x); }, suspect);
    case Element::bf16:
      return chain_of_squares<uint16_t, 32, clip>(
          bits, p.count, lane, scaling, [](uint16_t x) { return bf16_to_f32(x); }, suspect);
    default:
      return chain_of_squares<float, 16, clip>(
          static_cast<const float*>(p.gradient), p.count, lane, scaling, [](float x) { return x; }, suspect);
  }
}

struct Least {
  __device__ __forceinline__ int operator()(int a, int b) const { return a < b ? a : b; }
};

// Pieces of inactive segments have a sum of 0 and nothing that is not finite. for_update: the sums alone, of the gradients
// as an update takes them, and only where there is one.
template <bool for_update>
__global__ void __launch_bounds__(piece_threads) squares_kernel(FlatTables tables, const FlatControl* control) {
  if (for_update && control->apply == 0) return;
  const int64_t piece = static_cast<int64_t>(blockIdx.x) * pieces_per_block + threadIdx.x / piece_lanes;
  const int lane = static_cast<int>(threadIdx.x) % piece_lanes;
  GradientScaling scaling = update_scaling(*control);
  if (!for_update) scaling.clip_factor = 1;

  const bool exists = piece < tables.n_pieces;
  const FlatPiece where = tables.pieces[exists ? piece : 0];
  const FlatSegment segment = tables.segments[where.segment];
  PieceArrays p = piece_arrays(segment, where);
  if (!exists || segment.active == 0) p.count = 0;

  bool suspect = false;
  const double chain = scaling.clip_value > 0 ? chain_of_squares<true>(p, lane, scaling, &suspect)
                                              : chain_of_squares<false>(p, lane, scaling, &suspect);
  const double sum = fold_lanes(Sum(), chain);
  if (for_update) {
    if (exists && lane == 0) tables.sums1[piece] = sum;
    return;
  }

  // No sum of 16,384 squares of finite FP32 numbers overflows a double: without clipping, which hides infinities, the sum
  // tells whether anything is to be looked for. Only then the piece is read again.
  if (!(sum < float_of(0x7f800000u))) suspect = true;
  int count = 0, first = p.count;
  if (suspect)
    for (int i = lane; i < p.count; i += piece_lanes) {
      const float g = load_element(p.gradient, p.gradient_type, i);
      if (is_finite(g * scaling.inverse)) continue;
      if (count++ == 0) first = i;
    }
  count = fold_lanes(Sum(), count);
  first = fold_lanes(Least(), first);
  if (exists && lane == 0) {
    tables.sums1[piece] = sum;
    tables.found[piece] = {count, count > 0 ? where.begin + first : -1};
  }
}

__global__ void __launch_bounds__(piece_chains) total_kernel(FlatTables tables, FlatControl* control) {
  MPT_SHARED(double, chains, piece_chains);
  MPT_SHARED(long long, counts, piece_chains);
  MPT_SHARED(int, firsts, piece_chains);
  const int thread = static_cast<int>(threadIdx.x);
  sum_of_pieces(tables.sums1, tables.n_pieces, chains);
  const double sum = chains[0];
  long long count = 0;
  int first = tables.n_pieces;
  if (!(sum < float_of(0x7f800000u)) || control->clip_value > 0)  // as for a piece
    for (int i = thread; i < tables.n_pieces; i += piece_chains) {
      const int64_t found = tables.found[i].count;
      if (found > 0 && count == 0) first = i;
      count += found;
    }
  counts[thread] = count;
  firsts[thread] = first;
  __syncthreads();
  for (int half = piece_chains / 2; half > 0; half /= 2) {
    if (thread < half) {
      counts[thread] += counts[thread + half];
      firsts[thread] = Least()(firsts[thread], firsts[thread + half]);
    }
    __syncthreads();
  }
  if (thread != 0) return;
  first = firsts[0];
  const bool any = first < tables.n_pieces;
  control->sum_of_squares = sum;
  control->non_finite = counts[0];
  control->first_segment = any ? tables.pieces[first].segment : -1;
  control->first_element = any ? tables.found[first].first : -1;
}

unsigned piece_blocks(const FlatTables& tables) {
  return static_cast<unsigned>((tables.n_pieces + pieces_per_block - 1) / pieces_per_block);
}

}  // namespace

void flat_check(const FlatTables& tables, FlatControl* control, Stream stream) {
  if (tables.n_pieces > 0)
    launch(squares_kernel<false>, piece_blocks(tables), piece_threads, 0, stream, tables, control);
  launch(total_kernel, 1, piece_chains, 0, stream, tables, control);
}

void flat_gradient_squares(const FlatTables& tables, const FlatControl* control, Stream stream) {
  if (tables.n_pieces > 0)
    launch(squares_kernel<true>, piece_blocks(tables), piece_threads, 0, stream, tables, control);
}

}  // namespace mpt::cuda
