// Counts of the gradients' magnitudes, and of the updates that 16-bit weights would lose, before an update is made.
#include "kernels/flat_blocks.h"

namespace mpt::cuda {
namespace {

constexpr int statistics_threads = 256;

// The counts of mpt_update_statistics, in its order.
enum Counter {
  gradients,
  gradients_zero,
  gradients_non_finite,
  gradients_below_2_24,
  gradients_rounding_to_zero,
  gradients_below_2_14,
  gradients_above_2_15,
  updates,
  updates_lost,
  counters
};
static_assert(offsetof(mpt_update_statistics, updates_lost) ==
              offsetof(mpt_update_statistics, gradients) + updates_lost * sizeof(uint64_t));
static_assert(offsetof(mpt_update_statistics, gradient_histogram) ==
              offsetof(mpt_update_statistics, gradients) + counters * sizeof(uint64_t));
constexpr int all_counters = counters + MPT_HISTOGRAM_BINS;

__device__ __forceinline__ void count_gradient(float g, int (&count)[counters], unsigned* histogram) {
  const uint32_t magnitude = bits_of(g) & 0x7fffffffu;
  ++count[gradients];
  if (magnitude == 0) {
    ++count[gradients_zero];
  } else if (!is_finite(g)) {
    ++count[gradients_non_finite];
  } else {
    const float size = float_of(magnitude);
    count[gradients_below_2_24] += size < 0x1p-24f;
    count[gradients_rounding_to_zero] += size <= 0x1p-25f;
    count[gradients_below_2_14] += size < 0x1p-14f;
    count[gradients_above_2_15] += size > 0x1p15f;
    // FP32 numbers below 2^-126 share an exponent field; all of them belong to bin 0.
    const int bin = static_cast<int>(magnitude >> 23) - 127 + 48;
    atomicAdd(histogram + (bin < 0 ? 0 : bin >= MPT_HISTOGRAM_BINS ? MPT_HISTOGRAM_BINS - 1 : bin), 1u);
  }
}

__device__ __forceinline__ void count_update(float w, float update, Element type, int (&count)[counters]) {
  if (update == 0) return;
  ++count[updates];
  const float weight = rounded_to(type, w), moved = rounded_to(type, weight + update);
  // By bits, as 16-bit numbers are compared: zeros of different sign differ, a NaN that stays does not.
  count[updates_lost] += bits_of(moved) == bits_of(weight);
}

template <typename Rule>
__global__ void __launch_bounds__(statistics_threads)
    statistics_kernel(FlatTables tables, const FlatControl* control, mpt_update_statistics* out) {
  MPT_SHARED(unsigned, block_counts, all_counters);
  if (control->apply == 0) return;
  const FlatPiece where = tables.pieces[blockIdx.x];
  const FlatSegment segment = tables.segments[where.segment];
  if (segment.active == 0) return;
  for (int i = static_cast<int>(threadIdx.x); i < all_counters; i += statistics_threads) block_counts[i] = 0;
  __syncthreads();

  const RuleConstants c = tables.rules[where.segment];
  const float factor = tables.factors[where.segment];
  const GradientScaling scaling = update_scaling(*control);
  const PieceArrays p = piece_arrays(segment, where);
  const Element narrow = p.copy_type == Element::bf16 ? Element::bf16 : Element::f16;
  int count[counters] = {};
  for (int i = static_cast<int>(threadIdx.x); i < p.count; i += statistics_threads) {
    const float stored = load_element(p.gradient, p.gradient_type, i);
    float w[1], m = 0, v = 0;
    load_weights<1>(p, i, w);
    if (Rule::first) m = p.moment1[i];
    if (Rule::second) v = p.moment2[i];
    count_gradient(stored * scaling.inverse, count, block_counts + counters);
    count_update(w[0], Rule::update(c, factor, scaling(stored), w[0], m, v), narrow, count);
  }
  MPT_UNROLL
  for (int i = 0; i < counters; ++i)
    if (count[i] > 0) atomicAdd(block_counts + i, static_cast<unsigned>(count[i]));
  __syncthreads();
  auto* totals = reinterpret_cast<unsigned long long*>(&out->gradients);
  for (int i = static_cast<int>(threadIdx.x); i < all_counters; i += statistics_threads)
    if (block_counts[i] > 0) atomicAdd(totals + i, static_cast<unsigned long long>(block_counts[i]));
}

}  // namespace

void flat_statistics(const FlatTables& tables, const OptimizerHyper& hyper, const FlatControl* control,
                     mpt_update_statistics* out, Stream stream) {
  if (tables.n_pieces == 0) return;
  with_rule<LambWhole>(hyper, [&](auto rule) {
    launch(statistics_kernel<decltype(rule)>, static_cast<unsigned>(tables.n_pieces), statistics_threads, 0, stream,
           tables, control, out);
  });
}

}  // namespace mpt::cuda
