#include "backend/cpu/flat_passes.h"

#include <mutex>

#include "backend/cpu/element.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/isa/flat_kernels.h"
#include "core/error.h"
#include "kernels/numerics/float16.h"
#include "kernels/numerics/piece_sum.h"

namespace mpt::cpu {
namespace {

const FlatKernels& kernels() { return (*MPT_CHOOSE_ISA(isa(), flat_kernels))(); }

bool is_active(const Segment& s) { return s.active && s.gradient != nullptr; }

template <typename T>
T* advanced(T* tensor, int64_t elements) {
  return tensor == nullptr ? nullptr : tensor + elements;
}

// The weights and gradients of `count` elements from `begin` on.
FlatPiece piece_of(const Segment& s, int64_t begin, int64_t count) {
  FlatPiece p;
  p.count = count;
  p.master = advanced(s.master, begin);
  p.copy = advanced(static_cast<uint16_t*>(s.copy16), begin);
  if (s.gradient != nullptr)
    p.gradient = static_cast<const char*>(s.gradient) + begin * static_cast<int64_t>(size_of(s.gradient_dtype));
  p.copy_type = element_of(s.copy_dtype);
  p.gradient_type = element_of(s.gradient_dtype);
  return p;
}

FlatPiece piece_of(const FlatStore& store, const FlatStore::Piece& where) {
  return piece_of(store.segments[where.segment], where.begin, where.count);
}

// The same with all that an update needs.
FlatPiece update_piece(const FlatStore& store, int32_t segment, int64_t begin, int64_t count, const UpdateArgs& args) {
  const Segment& s = store.segments[segment];
  FlatPiece p = piece_of(s, begin, count);
  p.moment1 = advanced(s.moment1, begin);
  if (has_moment2(args.hyper)) p.moment2 = advanced(s.moment2, begin);
  p.average = advanced(s.average, begin);
  p.inverse_scale = args.inverse_scale;
  p.clip_value = args.clip_value;
  p.clip_factor = args.clip_factor;
  p.rule = rule_constants(args.hyper, args.learning_rate, s.learning_rate_factor, s.weight_decay, args.step);
  p.kind = args.hyper.kind;
  p.nesterov = args.hyper.nesterov;
  p.factor = store.factors[segment];
  p.average_decay = args.average_decay;
  p.average_rest = static_cast<float>(1.0 - static_cast<double>(args.average_decay));
  return p;
}

// Runs body(piece number, piece) for the pieces of active segments.
template <typename F>
void for_active(const Parallel& parallel, const FlatStore& store, F&& body) {
  parallel.run(static_cast<int64_t>(store.pieces.size()), [&](int64_t i, int) {
    const FlatStore::Piece& where = store.pieces[i];
    if (is_active(store.segments[where.segment])) body(i, where);
  });
}

// Adds the partial sums of each segment in PieceSum's order.
template <typename F>
void for_segment_sums(const FlatStore& store, F&& body) {
  std::size_t i = 0;
  while (i < store.pieces.size()) {
    const int32_t segment = store.pieces[i].segment;
    PieceSum first, second;
    const std::size_t begin = i;
    for (; i < store.pieces.size() && store.pieces[i].segment == segment; ++i) {
      first.add(static_cast<int64_t>(i - begin), store.partials[i].sum1);
      second.add(static_cast<int64_t>(i - begin), store.partials[i].sum2);
    }
    if (is_active(store.segments[segment])) body(segment, first.total(), second.total());
  }
}

// LAMB's trust ratios and NovoGrad's factors, which need the norms of whole tensors first. dry: no moment is moved.
void find_factors(const Parallel& parallel, const FlatStore& store, const UpdateArgs& args, bool dry) {
  const FlatKernels& k = kernels();
  if (args.hyper.kind == MPT_LAMB) {
    for_active(parallel, store, [&](int64_t i, const FlatStore::Piece& where) {
      const FlatSums sums = k.lamb_norms(update_piece(store, where.segment, where.begin, where.count, args), !dry);
      store.partials[i].sum1 = sums.first;
      store.partials[i].sum2 = sums.second;
    });
    for_segment_sums(store, [&](int32_t s, double weights, double directions) {
      store.factors[s] = lamb_trust_ratio(weights, directions);
    });
  } else if (args.hyper.kind == MPT_NOVOGRAD) {
    for_active(parallel, store, [&](int64_t i, const FlatStore::Piece& where) {
      int64_t non_finite = 0;
      store.partials[i].sum1 =
          k.sum_of_squares(update_piece(store, where.segment, where.begin, where.count, args), &non_finite);
    });
    for_segment_sums(store, [&](int32_t s, double squares, double) {
      const Segment& segment = store.segments[s];
      const RuleConstants c =
          rule_constants(args.hyper, args.learning_rate, segment.learning_rate_factor, segment.weight_decay, args.step);
      const float moment = novograd_moment(c, squares, *segment.moment2);
      store.factors[s] = novograd_factor(c, moment);
      if (!dry) *segment.moment2 = moment;
    });
  }
}

// Counters of one piece; integers, so that pieces can be added in any order.
void count_gradient(float g, mpt_update_statistics* s) {
  const uint32_t magnitude = bits_of(g) & 0x7fffffffu;
  ++s->gradients;
  if (magnitude == 0) {
    ++s->gradients_zero;
    return;
  }
  if (!is_finite(g)) {
    ++s->gradients_non_finite;
    return;
  }
  const float size = float_of(magnitude);
  s->gradients_below_2_24 += size < 0x1p-24f;
  s->gradients_rounding_to_zero += size <= 0x1p-25f;
  s->gradients_below_2_14 += size < 0x1p-14f;
  s->gradients_above_2_15 += size > 0x1p15f;
  // FP32 numbers below 2^-126 share an exponent field; all of them belong to bin 0.
  const int32_t bin = static_cast<int32_t>(magnitude >> 23) - 127 + 48;
  ++s->gradient_histogram[bin < 0 ? 0 : bin >= MPT_HISTOGRAM_BINS ? MPT_HISTOGRAM_BINS - 1 : bin];
}

void count_update(float master, float update, bool bf16, mpt_update_statistics* s) {
  if (update == 0) return;
  ++s->updates;
  const uint16_t rounded = bf16 ? f32_to_bf16(master) : f32_to_f16(master);
  const float weight = bf16 ? bf16_to_f32(rounded) : f16_to_f32(rounded);
  const uint16_t moved = bf16 ? f32_to_bf16(weight + update) : f32_to_f16(weight + update);
  s->updates_lost += moved == rounded;
}

void add(const mpt_update_statistics& from, mpt_update_statistics* to) {
  to->gradients += from.gradients;
  to->gradients_zero += from.gradients_zero;
  to->gradients_non_finite += from.gradients_non_finite;
  to->gradients_below_2_24 += from.gradients_below_2_24;
  to->gradients_rounding_to_zero += from.gradients_rounding_to_zero;
  to->gradients_below_2_14 += from.gradients_below_2_14;
  to->gradients_above_2_15 += from.gradients_above_2_15;
  to->updates += from.updates;
  to->updates_lost += from.updates_lost;
  for (int i = 0; i < MPT_HISTOGRAM_BINS; ++i) to->gradient_histogram[i] += from.gradient_histogram[i];
}

}  // namespace

void check_gradients(const Parallel& parallel, const FlatStore& store, const CheckArgs& args, CheckResult* out) {
  MPT_INVARIANT(store.partials.size() == store.pieces.size());
  const FlatKernels& k = kernels();
  for_active(parallel, store, [&](int64_t i, const FlatStore::Piece& where) {
    FlatPiece piece = piece_of(store, where);
    piece.inverse_scale = static_cast<float>(args.inverse_scale);
    piece.clip_value = static_cast<float>(args.clip_value);
    FlatStore::Partial& partial = store.partials[i];
    partial.sum1 = k.sum_of_squares(piece, &partial.count);
    partial.first = partial.count > 0 ? where.begin + k.first_non_finite(piece) : -1;
  });
  PieceSum sum;
  for (std::size_t i = 0; i < store.pieces.size(); ++i) {
    const int32_t segment = store.pieces[i].segment;
    if (!is_active(store.segments[segment])) continue;
    const FlatStore::Partial& partial = store.partials[i];
    sum.add(static_cast<int64_t>(i), partial.sum1);
    if (partial.count > 0 && out->first_segment < 0) {
      out->first_segment = segment;
      out->first_element = partial.first;
    }
    out->non_finite += partial.count;
  }
  out->sum_of_squares += sum.total();
}

void update(const Parallel& parallel, const FlatStore& store, const UpdateArgs& args, UpdateResult* out) {
  MPT_INVARIANT(store.partials.size() == store.pieces.size());
  find_factors(parallel, store, args, false);
  const FlatKernels& k = kernels();
  for_active(parallel, store, [&](int64_t i, const FlatStore::Piece& where) {
    store.partials[i].count = k.update(update_piece(store, where.segment, where.begin, where.count, args));
  });
  for (std::size_t i = 0; i < store.pieces.size(); ++i) {
    const int32_t segment = store.pieces[i].segment;
    if (!is_active(store.segments[segment]) || store.partials[i].count == 0) continue;
    if (out->first_overflow < 0) out->first_overflow = segment;
    out->overflows_16bit += store.partials[i].count;
  }
}

void round_copies(const Parallel& parallel, const FlatStore& store) {
  const FlatKernels& k = kernels();
  parallel.run(static_cast<int64_t>(store.pieces.size()), [&](int64_t i, int) {
    const FlatPiece piece = piece_of(store, store.pieces[i]);
    if (piece.master != nullptr && piece.copy != nullptr) k.round_copy(piece);
  });
}

void accumulate_gradients(const Parallel& parallel, const FlatStore& store, float* const* sums, float factor,
                          bool first) {
  const FlatKernels& k = kernels();
  for_active(parallel, store, [&](int64_t, const FlatStore::Piece& where) {
    k.accumulate(piece_of(store, where), factor, !first, sums[where.segment] + where.begin);
  });
}

void statistics(const Parallel& parallel, const FlatStore& store, const UpdateArgs& args, mpt_update_statistics* out) {
  find_factors(parallel, store, args, true);
  const FlatKernels& k = kernels();
  std::mutex adding;
  for_active(parallel, store, [&](int64_t, const FlatStore::Piece& where) {
    mpt_update_statistics counts{};
    float gradients[flat_block], weights[flat_block], updates[flat_block];
    const DType copy_dtype = store.segments[where.segment].copy_dtype;
    for (int64_t done = 0; done < where.count; done += flat_block) {
      const int64_t n = where.count - done < flat_block ? where.count - done : flat_block;
      k.preview(update_piece(store, where.segment, where.begin + done, n, args), gradients, weights, updates);
      for (int64_t i = 0; i < n; ++i) {
        count_gradient(gradients[i], &counts);
        count_update(weights[i], updates[i], copy_dtype == DType::bf16, &counts);
      }
    }
    const std::lock_guard<std::mutex> lock(adding);
    add(counts, out);
  });
}

}  // namespace mpt::cpu
