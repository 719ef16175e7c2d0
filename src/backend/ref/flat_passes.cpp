#include "backend/ref/flat_passes.h"

#include <algorithm>
#include <cmath>

#include "backend/ref/tensor.h"

namespace mpt::ref {

namespace {

bool takes_part(const Segment& s) { return s.active && s.gradient && s.count > 0; }

Tensor array_of(void* data, DType dtype, int64_t count) { return Tensor{data, dtype, Shape{count}, count}; }
Tensor gradient_of(const Segment& s) { return array_of(s.gradient, s.gradient_dtype, s.count); }

// The weights an update changes: the masters, or the 16-bit weights where there are no masters.
Tensor weights_of(const Segment& s) {
  return s.master ? array_of(s.master, DType::f32, s.count) : array_of(s.copy16, s.copy_dtype, s.count);
}

double clipped(double g, double limit) {
  if (limit > 0 && g > limit) return limit;
  if (limit > 0 && g < -limit) return -limit;
  return g;
}

// The gradient as the update rules take it.
double prepared(double stored, const UpdateArgs& args) {
  return clipped(stored * args.inverse_scale, args.clip_value) * args.clip_factor;
}

struct Moments {
  double m = 0, v = 0;
};

// One segment's update: u = -rate * direction, with what belongs to the whole segment worked out first.
class Rule {
 public:
  Rule(const Segment& segment, const UpdateArgs& args);

  // u of an element; moves its moments.
  double update(double g, double w, Moments& moments) const { return -rate_ * trust_ratio_ * direction(g, w, moments); }
  double segment_moment() const { return segment_moment_; }  // NovoGrad

 private:
  double direction(double g, double w, Moments& moments) const;
  double adam(double g, Moments& moments) const;

  OptimizerHyper hyper_;
  double rate_, decay_;
  double step_;
  double trust_ratio_ = 1;      // LAMB
  double segment_moment_ = 0;   // NovoGrad
  double gradient_factor_ = 1;  // NovoGrad: 1 / (sqrt(segment moment) + epsilon)
};

Moments moments_of(const Segment& s, int64_t i, int32_t kind) {
  Moments moments;
  if (s.moment1) moments.m = s.moment1[i];
  if (s.moment2 && kind != MPT_NOVOGRAD) moments.v = s.moment2[i];
  return moments;
}

Rule::Rule(const Segment& segment, const UpdateArgs& args)
    : hyper_(args.hyper),
      rate_(args.learning_rate * segment.learning_rate_factor),
      decay_(segment.weight_decay),
      step_(static_cast<double>(args.step)) {
  const Tensor gradient = gradient_of(segment), weights = weights_of(segment);
  if (hyper_.kind == MPT_LAMB) {
    double weights_squared = 0, directions_squared = 0;
    for (int64_t i = 0; i < segment.count; ++i) {
      Moments moments = moments_of(segment, i, hyper_.kind);
      const double w = weights[i], d = direction(prepared(gradient[i], args), w, moments);
      weights_squared += w * w;
      directions_squared += d * d;
    }
    if (weights_squared > 0 && directions_squared > 0) trust_ratio_ = std::sqrt(weights_squared / directions_squared);
  }
  if (hyper_.kind == MPT_NOVOGRAD) {
    double squared = 0;
    for (int64_t i = 0; i < segment.count; ++i) {
      const double g = prepared(gradient[i], args);
      squared += g * g;
    }
    const double v = segment.moment2[0];
    segment_moment_ = v > 0 ? hyper_.beta2 * v + (1 - hyper_.beta2) * squared : squared;
    const double root = std::sqrt(segment_moment_) + hyper_.epsilon;
    gradient_factor_ = root > 0 ? 1 / root : 0;
  }
}

double Rule::adam(double g, Moments& moments) const {
  moments.m = hyper_.beta1 * moments.m + (1 - hyper_.beta1) * g;
  moments.v = hyper_.beta2 * moments.v + (1 - hyper_.beta2) * g * g;
  const double m = moments.m / (1 - std::pow(hyper_.beta1, step_));
  const double v = moments.v / (1 - std::pow(hyper_.beta2, step_));
  return m / (std::sqrt(v) + hyper_.epsilon);
}

double Rule::direction(double g, double w, Moments& moments) const {
  switch (hyper_.kind) {
    case MPT_SGD: {
      const double d = g + decay_ * w;
      if (hyper_.momentum == 0) return d;
      moments.m = hyper_.momentum * moments.m + d;
      return hyper_.nesterov ? d + hyper_.momentum * moments.m : moments.m;
    }
    case MPT_ADAM:
      return adam(g + decay_ * w, moments);
    case MPT_ADAMW:
    case MPT_LAMB:
      return adam(g, moments) + decay_ * w;
    case MPT_ADAGRAD: {
      const double d = g + decay_ * w;
      moments.v += d * d;
      return d / (std::sqrt(moments.v) + hyper_.epsilon);
    }
    case MPT_NOVOGRAD:
      moments.m = hyper_.beta1 * moments.m + g * gradient_factor_ + decay_ * w;
      return moments.m;
    case MPT_LION: {
      const double x = hyper_.beta1 * moments.m + (1 - hyper_.beta1) * g;
      moments.m = hyper_.beta2 * moments.m + (1 - hyper_.beta2) * g;
      return (x > 0 ? 1 : x < 0 ? -1 : 0) + decay_ * w;
    }
  }
  fail(MPT_ERROR_UNSUPPORTED, "ref: unknown optimizer %d", hyper_.kind);
}

}  // namespace

void check_gradients(const FlatStore& store, const CheckArgs& args, CheckResult* out) {
  for (std::size_t n = 0; n < store.segments.size(); ++n) {
    const Segment& s = store.segments[n];
    if (!takes_part(s)) continue;
    const Tensor gradient = gradient_of(s);
    for (int64_t i = 0; i < s.count; ++i) {
      const double g = clipped(gradient[i] * args.inverse_scale, args.clip_value);
      out->sum_of_squares += g * g;
      if (std::isfinite(gradient[i])) continue;
      if (out->non_finite++ == 0) {
        out->first_segment = static_cast<int32_t>(n);
        out->first_element = i;
      }
    }
  }
}

void update(const FlatStore& store, const UpdateArgs& args, UpdateResult* out) {
  for (std::size_t n = 0; n < store.segments.size(); ++n) {
    const Segment& s = store.segments[n];
    if (!takes_part(s)) continue;
    const Rule rule(s, args);
    const Tensor gradient = gradient_of(s), weights = weights_of(s);
    const Tensor copy = array_of(s.copy16, s.copy_dtype, s.count);
    for (int64_t i = 0; i < s.count; ++i) {
      Moments moments = moments_of(s, i, args.hyper.kind);
      const double w = weights[i], updated = w + rule.update(prepared(gradient[i], args), w, moments);
      weights.set(i, updated);
      if (s.moment1) s.moment1[i] = static_cast<float>(moments.m);
      if (s.moment2 && args.hyper.kind != MPT_NOVOGRAD) s.moment2[i] = static_cast<float>(moments.v);
      if (copy && s.master) copy.set(i, weights[i]);
      if (s.average) {
        s.average[i] = static_cast<float>(args.average_decay * s.average[i] + (1.0 - args.average_decay) * weights[i]);
      }
      if (copy && std::isfinite(static_cast<float>(updated)) && !std::isfinite(copy[i])) {
        if (out->overflows_16bit++ == 0) out->first_overflow = static_cast<int32_t>(n);
      }
    }
    if (args.hyper.kind == MPT_NOVOGRAD) s.moment2[0] = static_cast<float>(rule.segment_moment());
  }
}

void round_copies(const FlatStore& store) {
  for (const Segment& s : store.segments) {
    if (!s.master || !s.copy16) continue;
    const Tensor copy = array_of(s.copy16, s.copy_dtype, s.count);
    for (int64_t i = 0; i < s.count; ++i) copy.set(i, s.master[i]);
  }
}

void accumulate_gradients(const FlatStore& store, float* const* sums, float factor, bool first) {
  for (std::size_t n = 0; n < store.segments.size(); ++n) {
    const Segment& s = store.segments[n];
    if (!takes_part(s) || !sums[n]) continue;
    const Tensor gradient = gradient_of(s);
    for (int64_t i = 0; i < s.count; ++i) {
      const double term = static_cast<double>(factor) * gradient[i];
      sums[n][i] = static_cast<float>(first ? term : sums[n][i] + term);
    }
  }
}

void statistics(const FlatStore& store, const UpdateArgs& args, mpt_update_statistics* out) {
  for (const Segment& s : store.segments) {
    if (!takes_part(s)) continue;
    const Rule rule(s, args);
    const DType narrow = is_16bit(s.copy_dtype) ? s.copy_dtype : DType::f16;
    const Tensor gradient = gradient_of(s), weights = weights_of(s);
    for (int64_t i = 0; i < s.count; ++i) {
      const double g = gradient[i] * args.inverse_scale, magnitude = std::fabs(g);
      ++out->gradients;
      if (!std::isfinite(g)) {
        ++out->gradients_non_finite;
      } else if (g == 0) {
        ++out->gradients_zero;
      } else {
        if (magnitude < std::ldexp(1.0, -24)) ++out->gradients_below_2_24;
        if (magnitude <= std::ldexp(1.0, -25)) ++out->gradients_rounding_to_zero;
        if (magnitude < std::ldexp(1.0, -14)) ++out->gradients_below_2_14;
        if (magnitude > std::ldexp(1.0, 15)) ++out->gradients_above_2_15;
        ++out->gradient_histogram[std::clamp(std::ilogb(magnitude) + 48, 0, MPT_HISTOGRAM_BINS - 1)];
      }
      Moments moments = moments_of(s, i, args.hyper.kind);
      const double u = rule.update(prepared(gradient[i], args), weights[i], moments);
      if (u == 0) continue;
      ++out->updates;
      const double w = round_to(narrow, weights[i]);
      if (round_to(narrow, w + u) == w) ++out->updates_lost;
    }
  }
}

}  // namespace mpt::ref
