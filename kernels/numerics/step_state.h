// One training step's decisions: from the check of the gradients to the update, the scale's change and what is reported. The
// runtime uses these functions for devices that it drives step by step; devices that decide for themselves run them in
// kernels, and keep a StepState in their memory.
#pragma once

#include "kernels/numerics/optimizers.h"
#include "kernels/numerics/scaler.h"
#include "kernels/numerics/schedule.h"
#include "kernels/numerics/step_vars.h"

namespace mpt {

// What does not change from step to step.
struct StepRules {
  ScalerRules scaler;
  ScheduleRule schedule;
  double clip_norm = 0;   // 0: none
  double clip_value = 0;  // 0: none
  double average_decay = 0;
  int32_t accumulation_steps = 1;
};

// What does, and is carried from one step to the next.
struct StepState {
  StepVars vars{};  // of the pass that runs
  ScalerNumbers scaler;
  uint64_t applied = 0;     // updates of this optimizer
  double base_rate = 0;     // learning rate before the schedule
  double loss_sum = 0;      // over the micro-steps gathered
  int32_t micro_steps = 0;  // gathered since the last update
  uint64_t finished = 0;    // steps since the state was made: numbers their outcomes
};

// What is told of a step.
struct StepOutcome {
  uint64_t number = 0;  // StepState::finished of it
  double loss = 0, scale = 0, gradient_norm = 0, learning_rate = 0;
  ScalerNumbers scaler;  // after it
  uint64_t applied_steps = 0;
  int64_t non_finite = 0, first_element = -1;
  int64_t overflows = 0;
  int32_t first_segment = -1, first_overflow = -1;
  int32_t applied = 0;  // 0: skipped
  int32_t limit_reached = 0;
};

MPT_HD bool is_finite_f64(double x) { return x - x == 0; }

// A global norm beyond clip_norm is scaled down to it. Written so that a NaN would clip to NaN and be seen, not pass.
MPT_HD float clip_factor_of(double norm, double clip_norm) {
  return clip_norm > 0 && !(norm <= clip_norm) ? static_cast<float>(clip_norm / norm) : 1.0f;
}

// Before a pass.
MPT_HD void begin_pass(const StepRules& rules, StepState* s) {
  s->vars.step = s->applied;
  s->vars.micro_step = static_cast<uint32_t>(s->micro_steps);
  s->vars.loss_scale = static_cast<float>(s->scaler.scale);
  s->vars.loss_weight = 1.0f / static_cast<float>(rules.accumulation_steps);
  if (s->micro_steps == 0) s->loss_sum = 0;
}

}  // namespace mpt
