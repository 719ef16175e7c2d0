// The update: gradients, masters, moments, 16-bit copies and averages in one read and one write, a block to a piece.
#include "kernels/flat_blocks.h"

namespace mpt::cuda {
namespace {

constexpr int update_threads = 256;

__device__ __forceinline__ bool overflows(Element type, float w) {
  return type == Element::f16 ? overflows_f16(w) : type == Element::bf16 && overflows_bf16(w);
}

struct Averaging {
  float decay, rest;
};

// n elements from i on. Returns how many weights became finite numbers beyond the 16-bit type.
template <typename Rule, int n>
__device__ __forceinline__ int update_group(const PieceArrays& p, int i, const RuleConstants& c, float factor,
                                            const GradientScaling& scaling, const Averaging& averaging) {
  float g[n] = {}, w[n], m[n] = {}, v[n] = {};
  // The gradients last: their type is a branch, and what follows it waits for them.
  if constexpr (Rule::first) load_group<n>(p.moment1, Element::f32, i, m);
  if constexpr (Rule::second) load_group<n>(p.moment2, Element::f32, i, v);
  load_weights<n>(p, i, w);
  if constexpr (Rule::gradient) load_group<n>(p.gradient, p.gradient_type, i, g);
  MPT_UNROLL
  for (int j = 0; j < n; ++j) w[j] += Rule::update(c, factor, scaling(g[j]), w[j], m[j], v[j]);
  if constexpr (Rule::first && Rule::gradient) store_group<n>(p.moment1, Element::f32, i, m);
  if constexpr (Rule::second && Rule::gradient) store_group<n>(p.moment2, Element::f32, i, v);
  if (p.master != nullptr) store_group<n>(p.master, Element::f32, i, w);
  int found = 0;
  if (p.copy != nullptr) {
    store_group<n>(p.copy, p.copy_type, i, w);
    MPT_UNROLL
    for (int j = 0; j < n; ++j) found += overflows(p.copy_type, w[j]);
  }
  if (p.average != nullptr) {
    float average[n];
    load_group<n>(p.average, Element::f32, i, average);
    MPT_UNROLL
    for (int j = 0; j < n; ++j) {
      const float now = p.master != nullptr ? w[j] : rounded_to(p.copy_type, w[j]);  // what the weight has become
      average[j] = moved_average(average[j], averaging.decay, averaging.rest, now);
    }
    store_group<n>(p.average, Element::f32, i, average);
  }
  return found;
}

template <typename Rule>
__global__ void __launch_bounds__(update_threads, 5) update_kernel(FlatTables tables, FlatControl* control) {
  if (control->apply == 0) return;
  const FlatPiece where = tables.pieces[blockIdx.x];
  const FlatSegment segment = tables.segments[where.segment];
  if (segment.active == 0) return;
  const RuleConstants c = tables.rules[where.segment];
  const float factor = tables.factors[where.segment];
  const GradientScaling scaling = update_scaling(*control);
  const Averaging averaging = {control->average_decay,
                               static_cast<float>(1.0 - static_cast<double>(control->average_decay))};
  const PieceArrays p = piece_arrays(segment, where);
  const bool grouped = allows_groups(p.master) && allows_groups(p.copy, Element::f16) &&
                       allows_groups(p.gradient, p.gradient_type) && (!Rule::first || allows_groups(p.moment1)) &&
                       (!Rule::second || allows_groups(p.moment2)) && allows_groups(p.average);
  int found = 0;
  const int in_groups = grouped ? p.count / 4 * 4 : 0;
  for (int i = 4 * static_cast<int>(threadIdx.x); i < in_groups; i += 4 * update_threads)
    found += update_group<Rule, 4>(p, i, c, factor, scaling, averaging);
  for (int i = in_groups + static_cast<int>(threadIdx.x); i < p.count; i += update_threads)
    found += update_group<Rule, 1>(p, i, c, factor, scaling, averaging);
  found = warp_reduce(Sum(), found);
  if (found > 0 && threadIdx.x % warp_size == 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(&control->overflows), static_cast<unsigned long long>(found));
    atomicMin(reinterpret_cast<unsigned*>(&control->first_overflow), static_cast<unsigned>(where.segment));
  }
}

// Of every segment that has one, with a gradient or without.
__global__ void __launch_bounds__(update_threads) seed_averages_kernel(FlatTables tables, const FlatControl* control) {
  if (control->apply == 0 || control->step != 1) return;
  for (int piece = static_cast<int>(blockIdx.x); piece < tables.n_pieces; piece += static_cast<int>(gridDim.x)) {
    const FlatPiece where = tables.pieces[piece];
    const FlatSegment segment = tables.segments[where.segment];
    if (segment.average == nullptr) continue;
    const PieceArrays p = piece_arrays(segment, where);
    for (int i = static_cast<int>(threadIdx.x); i < p.count; i += update_threads) {
      float w[1];
      load_weights<1>(p, i, w);
      p.average[i] = w[0];
    }
  }
}

__global__ void __launch_bounds__(update_threads) round_copies_kernel(FlatTables tables) {
  const FlatPiece where = tables.pieces[blockIdx.x];
  const FlatSegment segment = tables.segments[where.segment];
  if (segment.master == nullptr || segment.copy == nullptr) return;
  const PieceArrays p = piece_arrays(segment, where);
  const int in_groups = allows_groups(p.master) && allows_groups(p.copy, Element::f16) ? p.count / 4 * 4 : 0;
  for (int i = 4 * static_cast<int>(threadIdx.x); i < in_groups; i += 4 * update_threads) {
    float w[4];
    load_group<4>(p.master, Element::f32, i, w);
    store_group<4>(p.copy, p.copy_type, i, w);
  }
  for (int i = in_groups + static_cast<int>(threadIdx.x); i < p.count; i += update_threads)
    store_element(p.copy, p.copy_type, i, p.master[i]);
}

// The sums may be the FP32 gradients themselves.
template <int n>
__device__ __forceinline__ void accumulate_group(const PieceArrays& p, float* sums, int i, float factor, bool first) {
  float g[n], sum[n];
  if (!first) load_group<n>(sums, Element::f32, i, sum);
  load_group<n>(p.gradient, p.gradient_type, i, g);
  MPT_UNROLL
  for (int j = 0; j < n; ++j) sum[j] = first ? factor * g[j] : sum[j] + factor * g[j];
  store_group<n>(sums, Element::f32, i, sum);
}

__global__ void __launch_bounds__(update_threads)
    accumulate_kernel(FlatTables tables, float* const* sums, float factor, bool first) {
  const FlatPiece where = tables.pieces[blockIdx.x];
  const FlatSegment segment = tables.segments[where.segment];
  float* sum = sums[where.segment];
  if (segment.active == 0 || sum == nullptr) return;
  sum += where.begin;
  const PieceArrays p = piece_arrays(segment, where);
  const int in_groups = allows_groups(sum) && allows_groups(p.gradient, p.gradient_type) ? p.count / 4 * 4 : 0;
  for (int i = 4 * static_cast<int>(threadIdx.x); i < in_groups; i += 4 * update_threads)
    accumulate_group<4>(p, sum, i, factor, first);
  for (int i = in_groups + static_cast<int>(threadIdx.x); i < p.count; i += update_threads)
    accumulate_group<1>(p, sum, i, factor, first);
}

}  // namespace

void flat_update(const FlatTables& tables, const OptimizerHyper& hyper, FlatControl* control, Stream stream) {
  if (tables.n_pieces == 0) return;
  with_rule<LambSecond>(hyper, [&](auto rule) {
    launch(update_kernel<decltype(rule)>, static_cast<unsigned>(tables.n_pieces), update_threads, 0, stream, tables,
           control);
  });
}

void flat_seed_averages(const FlatTables& tables, const FlatControl* control, Stream stream) {
  if (tables.n_pieces == 0) return;
  // Few blocks, for in all steps but the first there is nothing to do.
  launch(seed_averages_kernel, blocks_for(tables.n_pieces, 1, 1024), update_threads, 0, stream, tables, control);
}

void flat_round_copies(const FlatTables& tables, Stream stream) {
  if (tables.n_pieces == 0) return;
  launch(round_copies_kernel, static_cast<unsigned>(tables.n_pieces), update_threads, 0, stream, tables);
}

void flat_accumulate(const FlatTables& tables, float* const* sums, float factor, bool first, Stream stream) {
  if (tables.n_pieces == 0) return;
  launch(accumulate_kernel, static_cast<unsigned>(tables.n_pieces), update_threads, 0, stream, tables, sums, factor,
         first);
}

}  // namespace mpt::cuda
