// What an update needs to know of whole tensors before it begins: their rules' constants, and LAMB's and NovoGrad's factors.
#include "kernels/flat_blocks.h"

namespace mpt::cuda {
namespace {

constexpr int rule_threads = 128;

__global__ void __launch_bounds__(rule_threads)
    rules_kernel(FlatTables tables, OptimizerHyper hyper, const FlatControl* control, FlatControl* found,
                 mpt_update_statistics* counts) {
  if (control->apply == 0) return;
  const int segment = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (segment == 0) {
    if (found != nullptr) {
      found->overflows = 0;
      found->first_overflow = -1;
    }
    if (counts != nullptr) *counts = mpt_update_statistics{};
  }
  if (segment >= tables.n_segments) return;
  const FlatSegment& s = tables.segments[segment];
  tables.rules[segment] =
      rule_constants(hyper, control->learning_rate, s.learning_rate_factor, s.weight_decay, control->step);
}

// LAMB's first pass over `n` elements of a lane's chain, 16 apart.
template <int n>
__device__ __forceinline__ void lamb_norms(const PieceArrays& p, int i, const RuleConstants& c,
                                           const GradientScaling& scaling, bool move, double* weights,
                                           double* directions) {
  float w[n], m[n], v[n], g[n];
  MPT_UNROLL
  for (int j = 0; j < n; ++j) {
    const int at = i + j * piece_lanes;
    m[j] = p.moment1[at];
    v[j] = p.moment2[at];
    w[j] = p.master != nullptr ? p.master[at] : load_element(p.copy, p.copy_type, at);
    g[j] = load_element(p.gradient, p.gradient_type, at);
  }
  MPT_UNROLL
  for (int j = 0; j < n; ++j) {
    const int at = i + j * piece_lanes;
    const float direction = lamb_direction(c, scaling(g[j]), w[j], m[j], v[j]);
    if (move) {
      p.moment1[at] = m[j];
      p.moment2[at] = v[j];
    }
    *weights = add_square(*weights, w[j]);
    *directions = add_square(*directions, direction);
  }
}

__global__ void __launch_bounds__(piece_threads)
    lamb_norms_kernel(FlatTables tables, const FlatControl* control, bool move) {
  if (control->apply == 0) return;
  const int64_t piece = static_cast<int64_t>(blockIdx.x) * pieces_per_block + threadIdx.x / piece_lanes;
  const int lane = static_cast<int>(threadIdx.x) % piece_lanes;
  const GradientScaling scaling = update_scaling(*control);
  const bool exists = piece < tables.n_pieces;
  const FlatPiece where = tables.pieces[exists ? piece : 0];
  const FlatSegment segment = tables.segments[where.segment];
  PieceArrays p = piece_arrays(segment, where);
  if (!exists || segment.active == 0) p.count = 0;
  const RuleConstants c = tables.rules[where.segment];

  constexpr int batch = 4;
  double weights = 0, directions = 0;
  int i = lane;
  for (; i + (batch - 1) * piece_lanes < p.count; i += batch * piece_lanes)
    lamb_norms<batch>(p, i, c, scaling, move, &weights, &directions);
  for (; i < p.count; i += piece_lanes) lamb_norms<1>(p, i, c, scaling, move, &weights, &directions);
  weights = fold_lanes(Sum(), weights);
  directions = fold_lanes(Sum(), directions);
  if (exists && lane == 0) {
    tables.sums1[piece] = weights;
    tables.sums2[piece] = directions;
  }
}

// A block to a segment.
template <bool lamb>
__global__ void __launch_bounds__(piece_chains)
    factors_kernel(FlatTables tables, const FlatControl* control, bool move) {
  MPT_SHARED(double, chains1, piece_chains);
  MPT_SHARED(double, chains2, piece_chains);
  if (control->apply == 0) return;
  const FlatSegment segment = tables.segments[blockIdx.x];
  if (segment.active == 0) return;
  const int64_t n = (segment.count + flat_piece - 1) / flat_piece;
  const double first = sum_of_pieces(tables.sums1 + segment.first_piece, n, chains1);
  if (lamb) {
    const double second = sum_of_pieces(tables.sums2 + segment.first_piece, n, chains2);
    if (threadIdx.x == 0) tables.factors[blockIdx.x] = lamb_trust_ratio(first, second);
  } else if (threadIdx.x == 0) {
    const RuleConstants c = tables.rules[blockIdx.x];
    const float moment = novograd_moment(c, first, *segment.moment2);
    tables.factors[blockIdx.x] = novograd_factor(c, moment);
    if (move) *segment.moment2 = moment;
  }
}

}  // namespace

void flat_rules(const FlatTables& tables, const OptimizerHyper& hyper, const FlatControl* control, FlatControl* found,
                mpt_update_statistics* counts, Stream stream) {
  launch(rules_kernel, blocks_for(tables.n_segments, rule_threads, INT32_MAX), rule_threads, 0, stream, tables, hyper,
         control, found, counts);
}

void flat_factors(const FlatTables& tables, const OptimizerHyper& hyper, const FlatControl* control, bool dry,
                  Stream stream) {
  if (tables.n_pieces == 0) return;
  const auto segments = static_cast<unsigned>(tables.n_segments);
  if (hyper.kind == MPT_LAMB) {
    const unsigned blocks = blocks_for(tables.n_pieces, pieces_per_block, INT32_MAX);
    launch(lamb_norms_kernel, blocks, piece_threads, 0, stream, tables, control, !dry);
    launch(factors_kernel<true>, segments, piece_chains, 0, stream, tables, control, !dry);
  } else if (hyper.kind == MPT_NOVOGRAD) {
    flat_gradient_squares(tables, control, stream);
    launch(factors_kernel<false>, segments, piece_chains, 0, stream, tables, control, !dry);
  }
}

}  // namespace mpt::cuda
