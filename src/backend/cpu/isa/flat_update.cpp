// The update of a piece in one read and one write of everything, and the small passes beside it.
#include <type_traits>

#include "backend/cpu/isa/flat_blocks.h"
#include "mpt.h"

namespace mpt::cpu::MPT_ISA {
namespace {

// Each rule: which moments it has, and the update of one element.
struct Sgd {
  static constexpr bool first = false, second = false;
  MPT_INLINE float update(const FlatPiece& p, float g, float w, float&, float&) { return sgd_rule(p.rule, g, w); }
};
struct SgdMomentum {
  static constexpr bool first = true, second = false;
  MPT_INLINE float update(const FlatPiece& p, float g, float w, float& m, float&) {
    return sgd_momentum_rule(p.rule, false, g, w, m);
  }
};
struct SgdNesterov {
  static constexpr bool first = true, second = false;
  MPT_INLINE float update(const FlatPiece& p, float g, float w, float& m, float&) {
    return sgd_momentum_rule(p.rule, true, g, w, m);
  }
};
struct Adam {
  static constexpr bool first = true, second = true;
  MPT_INLINE float update(const FlatPiece& p, float g, float w, float& m, float& v) {
    return adam_rule(p.rule, g, w, m, v);
  }
};
struct AdamW {
  static constexpr bool first = true, second = true;
  MPT_INLINE float update(const FlatPiece& p, float g, float w, float& m, float& v) {
    return adamw_rule(p.rule, g, w, m, v);
  }
};
// After lamb_norms() has moved the moments.
struct LambSecond {
  static constexpr bool first = true, second = true;
  MPT_INLINE float update(const FlatPiece& p, float, float w, float& m, float& v) {
    return -(p.rule.rate * p.factor * lamb_direction_again(p.rule, w, m, v));
  }
};
// The same with moments that have not been moved.
struct LambWhole {
  static constexpr bool first = true, second = true;
  MPT_INLINE float update(const FlatPiece& p, float g, float w, float& m, float& v) {
    return -(p.rule.rate * p.factor * lamb_direction(p.rule, g, w, m, v));
  }
};
struct Adagrad {
  static constexpr bool first = false, second = true;
  MPT_INLINE float update(const FlatPiece& p, float g, float w, float&, float& v) {
    return adagrad_rule(p.rule, g, w, v);
  }
};
struct NovoGrad {
  static constexpr bool first = true, second = false;
  MPT_INLINE float update(const FlatPiece& p, float g, float w, float& m, float&) {
    return novograd_rule(p.rule, p.factor, g, w, m);
  }
};
struct Lion {
  static constexpr bool first = true, second = false;
  MPT_INLINE float update(const FlatPiece& p, float g, float w, float& m, float&) { return lion_rule(p.rule, g, w, m); }
};

// Updates of n elements from their gradients and weights; moves the moments.
template <typename Rule>
MPT_INLINE void apply_rule(const FlatPiece& piece, const float* g, const float* w, float* m, float* v, float* u,
                           int64_t n) {
  const FlatPiece p = piece;  // a copy that no store can change: its numbers stay in registers
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    float first = Rule::first ? m[i] : 0, second = Rule::second ? v[i] : 0;
    u[i] = Rule::update(p, g[i], w[i], first, second);
    if (Rule::first) m[i] = first;
    if (Rule::second) v[i] = second;
  }
}

MPT_INLINE int64_t count_overflows(Element type, const float* w, int64_t n) {
  int32_t found = 0;
  if (type == Element::f16) {
    for (int64_t i = 0; i < n; ++i) found += overflows_f16(w[i]);
  } else if (type == Element::bf16) {
    for (int64_t i = 0; i < n; ++i) found += overflows_bf16(w[i]);
  }
  return found;
}

template <typename Rule>
MPT_INLINE int64_t update_with(const FlatPiece& piece) {
  Block gradients, weights, updates;
  float* const g = gradients.v;
  float* const w = weights.v;
  const float* const u = updates.v;
  int64_t overflows = 0;
  for_blocks(
      piece.count, [&](int64_t offset, int64_t n) __attribute__((always_inline)) {
        if constexpr (!std::is_same_v<Rule, LambSecond>) load_gradients(piece, offset, n, gradients);
        load_weights(piece, offset, n, weights);
        apply_rule<Rule>(piece, g, w, Rule::first ? piece.moment1 + offset : nullptr,
                         Rule::second ? piece.moment2 + offset : nullptr, updates.v, n);
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) w[i] += u[i];
        if (piece.master != nullptr) std::memcpy(piece.master + offset, w, static_cast<std::size_t>(n) * sizeof(float));
        if (piece.copy != nullptr) {
          narrow(piece.copy_type, w, n, piece.copy, offset);
          overflows += count_overflows(piece.copy_type, w, n);
        }
        if (piece.average != nullptr) {
          if (piece.master == nullptr) widen(piece.copy_type, piece.copy, offset, n, w);  // what the weight has become
          float* const average = piece.average + offset;
          const float decay = piece.average_decay, rest = piece.average_rest;
#pragma omp simd
          for (int64_t i = 0; i < n; ++i) average[i] = moved_average(average[i], decay, rest, w[i]);
        }
      });
  return overflows;
}

template <typename Rule>
MPT_INLINE void preview_with(const FlatPiece& piece, const float* g, const float* w, float* u) {
  Block first, second;
  if (Rule::first) widen(Element::f32, piece.moment1, 0, piece.count, first.v);
  if (Rule::second) widen(Element::f32, piece.moment2, 0, piece.count, second.v);
  apply_rule<Rule>(piece, g, w, first.v, second.v, u, piece.count);
}

int64_t update(const FlatPiece& piece) {
  switch (piece.kind) {
    case MPT_SGD:
      if (piece.moment1 == nullptr) return update_with<Sgd>(piece);
      return piece.nesterov ? update_with<SgdNesterov>(piece) : update_with<SgdMomentum>(piece);
    case MPT_ADAM:
      return update_with<Adam>(piece);
    case MPT_ADAMW:
      return update_with<AdamW>(piece);
    case MPT_LAMB:
      return update_with<LambSecond>(piece);
    case MPT_ADAGRAD:
      return update_with<Adagrad>(piece);
    case MPT_NOVOGRAD:
      return update_with<NovoGrad>(piece);
    case MPT_LION:
      return update_with<Lion>(piece);
    default:
      return 0;
  }
}

void preview(const FlatPiece& piece, float* gradients, float* weights, float* updates) {
  Block g, w;
  load_gradients(piece, 0, piece.count, g);
  load_weights(piece, 0, piece.count, w);
  switch (piece.kind) {
    case MPT_SGD:
      if (piece.moment1 == nullptr) {
        preview_with<Sgd>(piece, g.v, w.v, updates);
      } else if (piece.nesterov) {
        preview_with<SgdNesterov>(piece, g.v, w.v, updates);
      } else {
        preview_with<SgdMomentum>(piece, g.v, w.v, updates);
      }
      break;
    case MPT_ADAM:
      preview_with<Adam>(piece, g.v, w.v, updates);
      break;
    case MPT_ADAMW:
      preview_with<AdamW>(piece, g.v, w.v, updates);
      break;
    case MPT_LAMB:
      preview_with<LambWhole>(piece, g.v, w.v, updates);
      break;
    case MPT_ADAGRAD:
      preview_with<Adagrad>(piece, g.v, w.v, updates);
      break;
    case MPT_NOVOGRAD:
      preview_with<NovoGrad>(piece, g.v, w.v, updates);
      break;
    case MPT_LION:
      preview_with<Lion>(piece, g.v, w.v, updates);
      break;
    default:
      break;
  }
  std::memcpy(weights, w.v, static_cast<std::size_t>(piece.count) * sizeof(float));
  widen(piece.gradient_type, piece.gradient, 0, piece.count, gradients);
  for (int64_t i = 0; i < piece.count; ++i) gradients[i] *= piece.inverse_scale;
}

double sum_of_squares(const FlatPiece& piece, int64_t* non_finite) {
  Block g;
  Squares sum;
  int64_t found = 0;
  for_blocks(
      piece.count, [&](int64_t offset, int64_t n) __attribute__((always_inline)) {
        widen(piece.gradient_type, piece.gradient, offset, n, g.v);
        int32_t bad = 0;
        const float inverse = piece.inverse_scale;
        for (int64_t i = 0; i < n; ++i) bad += !is_finite(g.v[i] * inverse);
        found += bad;
        const float limit = piece.clip_value, factor = piece.clip_factor;
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) g.v[i] = unscaled_gradient(g.v[i], inverse, limit, factor);
        for (int64_t i = n; i < padded(n); ++i) g.v[i] = 0;
        add_squares(g, n, sum);
      });
  *non_finite = found;
  return total(sum);
}

int64_t first_non_finite(const FlatPiece& piece) {
  Block g;
  for (int64_t offset = 0; offset < piece.count; offset += flat_block) {
    const int64_t n = piece.count - offset < flat_block ? piece.count - offset : flat_block;
    widen(piece.gradient_type, piece.gradient, offset, n, g.v);
    for (int64_t i = 0; i < n; ++i)
      if (!is_finite(g.v[i] * piece.inverse_scale)) return offset + i;
  }
  return piece.count;
}

FlatSums lamb_norms(const FlatPiece& piece, bool move_moments) {
  Block g, w, m, v, direction;
  Squares weights, directions;
  const RuleConstants c = piece.rule;
  for_blocks(
      piece.count, [&](int64_t offset, int64_t n) __attribute__((always_inline)) {
        load_gradients(piece, offset, n, g);
        load_weights(piece, offset, n, w);
        widen(Element::f32, piece.moment1, offset, n, m.v);
        widen(Element::f32, piece.moment2, offset, n, v.v);
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) direction.v[i] = lamb_direction(c, g.v[i], w.v[i], m.v[i], v.v[i]);
        for (int64_t i = n; i < padded(n); ++i) direction.v[i] = 0;
        if (move_moments) {
          std::memcpy(piece.moment1 + offset, m.v, static_cast<std::size_t>(n) * sizeof(float));
          std::memcpy(piece.moment2 + offset, v.v, static_cast<std::size_t>(n) * sizeof(float));
        }
        add_squares(w, n, weights);
        add_squares(direction, n, directions);
      });
  return {total(weights), total(directions)};
}

void round_copy(const FlatPiece& piece) { narrow(piece.copy_type, piece.master, piece.count, piece.copy, 0); }

void accumulate(const FlatPiece& piece, float factor, bool add, float* sums) {
  Block g;
  for_blocks(
      piece.count, [&](int64_t offset, int64_t n) __attribute__((always_inline)) {
        widen(piece.gradient_type, piece.gradient, offset, n, g.v);
        float* const sum = sums + offset;
        if (add) {
#pragma omp simd
          for (int64_t i = 0; i < n; ++i) sum[i] += factor * g.v[i];
        } else {
#pragma omp simd
          for (int64_t i = 0; i < n; ++i) sum[i] = factor * g.v[i];
        }
      });
}

constexpr FlatKernels kernels = {sum_of_squares, first_non_finite, update, lamb_norms, preview, round_copy, accumulate};

}  // namespace

const FlatKernels& flat_kernels() { return kernels; }

}  // namespace mpt::cpu::MPT_ISA
