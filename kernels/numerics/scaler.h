// The loss scaler's automaton: what one update, applied or skipped, does to the scale.
#pragma once

#include "kernels/numerics/qualifiers.h"
#include "mpt.h"

namespace mpt {

struct ScalerRules {
  int32_t mode = MPT_SCALER_DYNAMIC;
  double growth_factor = 2;
  double backoff_factor = 0.5;
  double min_scale = 1;
  double max_scale = 16777216;
  int32_t growth_interval = 2000;
  int32_t hysteresis = 1;
  int32_t skip_limit = 100;
};

struct ScalerNumbers {
  double scale = 1;
  int32_t growth_counter = 0;      // applied updates since the last skip or growth
  int32_t hysteresis_counter = 1;  // skips left before the scale backs off
  int32_t skips_in_a_row = 0;
  int32_t skips_at_floor = 0;  // of those, the ones that found no scale left to give up
  uint64_t applied = 0;
  uint64_t skipped = 0;
  uint64_t epoch = 0;  // changes with every update: a scale is good for the gradients of one
};

// After an update for which this scaler's gradients were finite or not (`overflowed`), and which was `applied` or, because of
// these or of another objective's gradients, skipped. Finite gradients of a skipped update neither raise nor lower the scale.
//
// The hysteresis counter goes down with each skip in a row; at zero the scale backs off, and again with every later skip,
// until growth refills the counter. An applied update before that ends the row and refills it too.
MPT_HD ScalerNumbers scaler_after(const ScalerRules& rules, ScalerNumbers s, bool overflowed, bool applied) {
  ++s.epoch;
  if (applied && !overflowed) {
    ++s.applied;
    s.skips_in_a_row = 0;
    s.skips_at_floor = 0;
    if (rules.mode != MPT_SCALER_DYNAMIC) return s;
    if (s.hysteresis_counter > 0) s.hysteresis_counter = rules.hysteresis;
    if (++s.growth_counter >= rules.growth_interval) {
      const double grown = s.scale * rules.growth_factor;
      s.scale = grown < rules.max_scale ? grown : rules.max_scale;
      s.growth_counter = 0;
      s.hysteresis_counter = rules.hysteresis;
    }
    return s;
  }
  ++s.skipped;
  if (!overflowed) return s;
  ++s.skips_in_a_row;
  s.growth_counter = 0;
  if (rules.mode != MPT_SCALER_DYNAMIC || s.scale <= rules.min_scale) {
    ++s.skips_at_floor;
    return s;
  }
  s.skips_at_floor = 0;
  if (s.hysteresis_counter > 0) --s.hysteresis_counter;
  if (s.hysteresis_counter == 0) {
    const double lower = s.scale * rules.backoff_factor;
    s.scale = lower > rules.min_scale ? lower : rules.min_scale;
  }
  return s;
}

// Whether the skip policy applies after this update.
MPT_HD bool skip_limit_reached(const ScalerRules& rules, const ScalerNumbers& s) {
  return s.skips_at_floor >= rules.skip_limit && s.skips_at_floor > 0;
}

}  // namespace mpt
