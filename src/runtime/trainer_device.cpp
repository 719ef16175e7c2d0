// Steps of a trainer on a device that decides for itself: passes and updates are enqueued, and what came of them is heard of
// later, or at once where the caller asks.
#include <algorithm>
#include <cmath>

#include "runtime/trainer.h"

namespace mpt {

Trainer::~Trainer() { params_->ask_for_scale(nullptr); }

// Objectives that share an optimizer or a scaler, and statistics of updates, are decided on by the host.
bool Trainer::device_decides() const {
  for (const Objective& objective : objectives_) {
    if (objective.optimizer->samples_statistics() || uses_sums(objective)) return false;
    for (const Objective& other : objectives_)
      if (&other != &objective && other.scaler == objective.scaler) return false;
    if (objective.device) continue;
    std::unique_ptr<StepEngine> engine = model_->context->backend().make_step_engine(
        objective.optimizer->step_rules(objective.scaler->rules(), accumulation_steps_));
    if (!engine) return false;
    const_cast<Objective&>(objective).device =
        std::make_unique<DeviceSteps>(std::move(engine), objective.optimizer, objective.scaler);
  }
  return true;
}

void Trainer::enqueue_pass(Objective& objective, const Batch& batch, const Sizes& sizes, bool last) {
  Backend& backend = model_->context->backend();
  Plan& plan = training_plan(objective, sizes);
  CachedPlan& cached = plans_.front();
  stage_inputs(plan, backend, batch.inputs, batch.count);
  const FlatStore& store = objective.optimizer->store_for(plan.gradient_slots());
  std::unique_ptr<StepProgram>& program = last ? cached.update : cached.gather;
  if (!program) {
    StepWork work;
    work.pass = [](void* self, const StepVars* vars) { static_cast<Plan*>(self)->launch(vars); };
    work.self = &plan;
    const ValueId loss = plan.value_of(objective.loss);
    work.loss = plan.pointer(loss);
    work.loss_dtype = plan.graph().value(loss).dtype;
    work.store = &store;
    work.hyper = objective.optimizer->hyper();
    work.update = last;
    work.averages = objective.optimizer->has_averages();
    work.recorded = !eager_;
    program = objective.device->engine().make_program(work);
  }
  objective.device->prepare(seed_);
  workspace_->writer = this;
  objective.device->run(*program, last);
  last_plan_ = &plan;
  values_readable_ = true;
}

void Trainer::step_on_device(const Batch& batch, const Sizes& sizes, mpt_step_result* result) {
  const bool last = micro_step_ + 1 == accumulation_steps_;
  params_->discard_gradients();
  params_->ask_for_scale([this](int32_t slot) {
    hear_all(true, nullptr);
    for (const Objective& objective : objectives_)
      if (objective.optimizer->trains(slot)) return objective.device_scale;
    return 1.0;
  });
  try {
    for (Objective& objective : objectives_) enqueue_pass(objective, batch, sizes, last);
    micro_step_ = last ? 0 : micro_step_ + 1;
    hear_all(last && (result || progress_), &batch);
  } catch (...) {
    abandon_batch();
    throw;
  }
  if (!last && (result || progress_))
    for (Objective& objective : objectives_) {
      mpt_step_result& r = objective.result;
      r = mpt_step_result{};
      r.loss = objective.device->loss_so_far();
      r.scale = objective.scaler->scale();
      r.gradient_norm = std::nan("");
      r.learning_rate = objective.optimizer->learning_rate();
      r.applied_steps = objective.optimizer->applied_steps();
      r.skipped_steps = objective.scaler->numbers().skipped;
      r.micro_step = micro_step_;
    }
  if (result) *result = objectives_[0].result;
  report_progress();
}

void Trainer::hear_all(bool wait, const Batch* batch) {
  for (Objective& objective : objectives_)
    if (objective.device)
      objective.device->collect(wait, [&](const StepOutcome& outcome) { hear(objective, outcome, batch); });
}

void Trainer::hear(Objective& objective, const StepOutcome& outcome, const Batch* batch) {
  Optimizer& optimizer = *objective.optimizer;
  objective.device_scale = outcome.scale;
  mpt_step_result& r = objective.result;
  r = mpt_step_result{};
  r.skipped = outcome.applied ? 0 : 1;
  r.loss = outcome.loss;
  r.scale = outcome.scale;
  r.gradient_norm = outcome.gradient_norm;
  r.learning_rate = outcome.learning_rate;
  r.applied_steps = outcome.applied_steps;
  r.skipped_steps = outcome.scaler.skipped;
  r.fp16_overflows = static_cast<int32_t>(std::min<int64_t>(outcome.overflows, INT32_MAX));
  optimizer.report_overflows({outcome.overflows, outcome.first_overflow});
  if (outcome.applied) return;
  GradientCheck check;
  check.finite = false;
  check.norm = std::nan("");
  check.non_finite = outcome.non_finite;
  if (outcome.first_segment >= 0) check.slot = optimizer.slots()[static_cast<std::size_t>(outcome.first_segment)];
  check.element = outcome.first_element;
  model_->context->log(MPT_LOG_INFO, "step skipped: %s; the scale is now %g", check.text(*params_).c_str(),
                       outcome.scaler.scale);
  if (outcome.limit_reached) apply_skip_policy(objective, check, outcome.scaler.skips_in_a_row, batch);
}

}  // namespace mpt
