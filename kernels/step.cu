#include "kernels/step.h"

namespace mpt::cuda {
namespace {

__global__ void begin_kernel(StepPointers step) { begin_pass(*step.rules, step.state); }

__global__ void add_loss_kernel(StepPointers step, const void* loss, Element type) {
  step.state->loss_sum += static_cast<double>(load_element(loss, type, 0));
  ++step.state->micro_steps;
}

__global__ void prepare_check_kernel(StepPointers step) {
  FlatControl& c = *step.control;
  c.inverse_scale = 1 / step.state->scaler.scale;  // exact: a power of two
  c.clip_value = step.rules->clip_value;
  c.apply = 0;
}

__global__ void decide_kernel(StepPointers step) {
  const StepRules& rules = *step.rules;
  const StepState& s = *step.state;
  FlatControl& c = *step.control;
  c.apply = c.non_finite == 0 && is_finite_f64(c.sum_of_squares) ? 1 : 0;
  c.learning_rate = s.base_rate * schedule_factor(rules.schedule, static_cast<int64_t>(s.applied));
  c.step = s.applied + 1;
  c.clip_factor = c.apply ? clip_factor_of(square_root_f64(c.sum_of_squares), rules.clip_norm) : 1.0f;
  c.average_decay = static_cast<float>(rules.average_decay);
  c.overflows = 0;
  c.first_overflow = -1;
}

__global__ void finish_kernel(StepPointers step) {
  const StepRules& rules = *step.rules;
  StepState& s = *step.state;
  const FlatControl& c = *step.control;
  const bool applied = c.apply != 0;
  StepOutcome o;
  o.number = s.finished;
  o.loss = s.loss_sum / rules.accumulation_steps;
  o.scale = s.scaler.scale;
  o.gradient_norm = applied ? square_root_f64(c.sum_of_squares) : static_cast<double>(float_of(0x7fc00000u));
  o.learning_rate = c.learning_rate;
  s.scaler = scaler_after(rules.scaler, s.scaler, !applied, applied);
  if (applied) ++s.applied;
  s.micro_steps = 0;
  ++s.finished;
  o.scaler = s.scaler;
  o.applied_steps = s.applied;
  o.non_finite = c.non_finite;
  o.first_segment = c.first_segment;
  o.first_element = c.first_element;
  o.overflows = applied ? c.overflows : 0;
  o.first_overflow = applied ? c.first_overflow : -1;
  o.applied = applied ? 1 : 0;
  o.limit_reached = !applied && skip_limit_reached(rules.scaler, s.scaler) ? 1 : 0;
  step.outcomes[o.number % step.outcome_slots] = o;
}

}  // namespace

void step_begin(const StepPointers& step, Stream stream) { launch(begin_kernel, 1, 1, 0, stream, step); }
void step_add_loss(const StepPointers& step, const void* loss, Element type, Stream stream) {
  launch(add_loss_kernel, 1, 1, 0, stream, step, loss, type);
}
void step_prepare_check(const StepPointers& step, Stream stream) {
  launch(prepare_check_kernel, 1, 1, 0, stream, step);
}
void step_decide(const StepPointers& step, Stream stream) { launch(decide_kernel, 1, 1, 0, stream, step); }
void step_finish(const StepPointers& step, Stream stream) { launch(finish_kernel, 1, 1, 0, stream, step); }

}  // namespace mpt::cuda
