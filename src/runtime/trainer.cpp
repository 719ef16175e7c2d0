#include "runtime/trainer.h"

#include <algorithm>
#include <cmath>

#include "runtime/host_array.h"

namespace mpt {
namespace {

double read_scalar(Backend& backend, const Plan& plan, ValueId value) {
  const DType type = plan.graph().value(value).dtype;
  unsigned char bytes[8] = {};
  backend.copy_out(bytes, plan.pointer(value), size_of(type));
  return load_element(bytes, 0, type);
}

}  // namespace

Trainer::Trainer(std::shared_ptr<Model> model, std::shared_ptr<Params> params, std::shared_ptr<Workspace> workspace,
                 ValueId loss, std::shared_ptr<Optimizer> optimizer, std::shared_ptr<Scaler> scaler,
                 const mpt_trainer_options& options)
    : model_(std::move(model)),
      params_(std::move(params)),
      workspace_(std::move(workspace)),
      accumulation_steps_(options.accumulation_steps),
      activation_budget_(options.activation_budget),
      max_plans_(options.max_plans),
      eager_(options.eager != 0),
      progress_(options.progress),
      progress_user_(options.progress_user),
      seed_(model_->context->seed()) {
  constexpr int32_t most_steps = 1 << 20;
  MPT_CHECK_ARGUMENT(accumulation_steps_ >= 1 && accumulation_steps_ <= most_steps,
                     "accumulation_steps is %d, expected 1 to %d", accumulation_steps_, most_steps);
  MPT_CHECK_ARGUMENT(options.eager == 0 || options.eager == 1, "eager is %d, expected 0 or 1", options.eager);
  MPT_CHECK_ARGUMENT(max_plans_ >= 1, "max_plans is %d, expected at least 1", max_plans_);
  add_objective(loss, std::move(optimizer), std::move(scaler));
  if (accumulation_steps_ > 1) params_->require_fp32_gradients();
}

void Trainer::add_objective(ValueId loss, std::shared_ptr<Optimizer> optimizer, std::shared_ptr<Scaler> scaler) {
  if (started_) fail(MPT_ERROR_INVALID_STATE, "objectives can be added before the first step only");
  MPT_CHECK_ARGUMENT(model_->graph.valid(loss), "the loss %d is no tensor of the model", loss);
  const Shape& shape = model_->graph.shape(loss);
  MPT_CHECK_ARGUMENT(shape.is_known() && shape.elements() == 1, "the loss %s must have one element",
                     model_->graph.describe(loss).c_str());
  MPT_CHECK_ARGUMENT(!optimizer || optimizer->params() == params_, "the optimizer belongs to another parameter store");
  MPT_CHECK_ARGUMENT(optimizer || objectives_.empty(), "an objective needs an optimizer");
  if (optimizer && !scaler) {
    // FP16 needs scaling; FP32 and BF16 have the range, and still check and skip.
    mpt_scaler_options options;
    mpt_scaler_options_init(&options, sizeof options);
    if (params_->config().precision != MPT_PRECISION_FP16) options = Scaler::off_options();
    scaler = std::make_shared<Scaler>(options, "mpt_trainer_create");
  }
  Objective objective;
  objective.loss = loss;
  objective.optimizer = std::move(optimizer);
  objective.scaler = std::move(scaler);
  for (Objective& other : objectives_)
    if (other.optimizer == objective.optimizer) other.shared = objective.shared = true;
  objectives_.push_back(std::move(objective));
}

void Trainer::require_trainable(const char* what) const {
  if (!objectives_[0].optimizer)
    fail(MPT_ERROR_INVALID_STATE, "the trainer was made without an optimizer: it can evaluate and predict, not %s",
         what);
}

void Trainer::begin_call() {
  if (cancelled_.exchange(false)) {
    abandon_batch();
    fail(MPT_ERROR_CANCELLED, "cancelled before the step began");
  }
}

// Gradients of different losses, or of several objectives' micro-steps, are added up in FP32 outside the plan.
bool Trainer::uses_sums(const Objective& objective) const {
  return objective.shared || (objectives_.size() > 1 && (accumulation_steps_ > 1 || split_));
}

// The half-done update never happened.
void Trainer::abandon_batch() noexcept {
  cancelled_.store(false);
  micro_step_ = 0;
  backward_done_ = false;
  params_->discard_gradients();
  for (Objective& objective : objectives_) {
    objective.loss_sum = 0;
    objective.finite = true;
    if (objective.optimizer && uses_sums(objective)) objective.optimizer->clear_sums();
    if (objective.device) objective.device->abandon();
  }
}

void Trainer::backward_objective(Objective& objective, const Batch& batch, const Sizes& sizes) {
  Optimizer& optimizer = *objective.optimizer;
  Scaler& scaler = *objective.scaler;
  Plan& plan = training_plan(objective, sizes);
  stage_inputs(plan, model_->context->backend(), batch.inputs, batch.count);

  const bool sums = uses_sums(objective);
  const bool first_of_optimizer = std::find_if(objectives_.begin(), objectives_.end(), [&](const Objective& o) {
                                    return o.optimizer == objective.optimizer;
                                  })->loss == objective.loss;
  if (micro_step_ == 0) {
    objective.loss_sum = 0;
    objective.finite = true;
    if (sums && first_of_optimizer) {
      optimizer.use_sums();
      optimizer.clear_sums();
    }
  }
  if (sums || micro_step_ == 0) params_->begin_gradients(&scaler, &plan.gradient_slots());
  objective.scale = scaler.scale();
  run(plan, step_vars(objective));
  last_plan_ = &plan;
  values_readable_ = true;
  objective.loss_sum += read_scalar(model_->context->backend(), plan, plan.value_of(objective.loss));
  if (sums) {
    objective.finite = optimizer.check(&scaler, "mpt_trainer_step").finite && objective.finite;
    optimizer.gather(&scaler);
  }
}

void Trainer::update_objectives(Optimizer& optimizer, const Batch* batch) {
  std::vector<Objective*> mine;
  for (Objective& objective : objectives_)
    if (objective.optimizer.get() == &optimizer) mine.push_back(&objective);
  const bool sums = uses_sums(*mine[0]);
  const GradientCheck check =
      sums ? optimizer.check_sums() : optimizer.check(mine[0]->scaler.get(), "mpt_trainer_step");

  // All decisions come first: an error then leaves everything as it was. A scaler that serves several losses changes once.
  struct Decision {
    Scaler* scaler;
    bool overflowed;
  };
  std::vector<Decision> decisions;
  for (Objective* objective : mine) {
    const bool overflowed = sums ? !objective->finite : !check.finite;
    const auto same = std::find_if(decisions.begin(), decisions.end(),
                                   [&](const Decision& d) { return d.scaler == objective->scaler.get(); });
    if (same == decisions.end())
      decisions.push_back({objective->scaler.get(), overflowed});
    else
      same->overflowed = same->overflowed || overflowed;
  }
  for (Objective* objective : mine)
    for (const Decision& d : decisions)
      if (d.scaler == objective->scaler.get()) {
        const Scaler::Change change = d.scaler->change(d.overflowed, check.finite);
        if (change.limit_reached) apply_skip_policy(*objective, check, change.numbers.skips_in_a_row, batch);
      }

  UpdateReport report;
  report.learning_rate = optimizer.learning_rate();
  if (check.finite)
    report = optimizer.apply(check);
  else
    optimizer.skip();
  for (const Decision& d : decisions) d.scaler->commit(d.scaler->change(d.overflowed, check.finite));
  for (Objective* objective : mine) fill_result(*objective, check, report, check.finite);
  if (!check.finite)
    model_->context->log(MPT_LOG_INFO, "step skipped: %s; the scale is now %g", check.text(*params_).c_str(),
                         mine[0]->scaler->scale());
}

void Trainer::fill_result(Objective& objective, const GradientCheck& check, const UpdateReport& report, bool applied) {
  mpt_step_result& r = objective.result;
  r = mpt_step_result{};
  r.skipped = applied ? 0 : 1;
  r.loss = objective.loss_sum / accumulation_steps_;
  r.scale = objective.scale;
  r.gradient_norm = check.norm;
  r.learning_rate = report.learning_rate;
  r.applied_steps = objective.optimizer->applied_steps();
  r.skipped_steps = objective.scaler->numbers().skipped;
  r.fp16_overflows = static_cast<int32_t>(std::min<int64_t>(report.overflows_16bit, INT32_MAX));
}

// With several objectives nothing may be applied before the inputs of all are known to be right.
void Trainer::check_batch(const Batch& batch, const Sizes& sizes) {
  if (objectives_.size() == 1) {
    check_inputs_complete(training_plan(objectives_[0], sizes), batch.inputs, batch.count, true);
    return;
  }
  for (const Objective& objective : objectives_) {
    Plan& plan = training_plan(objective, sizes);
    check_inputs_complete(plan, batch.inputs, batch.count, false);
    stage_inputs(plan, model_->context->backend(), batch.inputs, batch.count);
  }
}

void Trainer::step(const Batch& batch, mpt_step_result* result) {
  require_trainable("step");
  begin_call();
  if (backward_done_)
    fail(MPT_ERROR_INVALID_STATE, "mpt_trainer_backward was called: mpt_trainer_update must come before the next step");
  const Sizes sizes = bind_sizes(model_->graph, model_->context->backend(), batch.inputs, batch.count);
  split_ = false;
  check_batch(batch, sizes);
  started_ = true;
  if (device_decides()) {
    step_on_device(batch, sizes, result);
    return;
  }
  try {
    const bool last = micro_step_ + 1 == accumulation_steps_;
    std::vector<Optimizer*> done;
    for (const Objective& first : objectives_) {
      Optimizer* optimizer = first.optimizer.get();
      if (std::find(done.begin(), done.end(), optimizer) != done.end()) continue;
      done.push_back(optimizer);
      for (Objective& objective : objectives_)
        if (objective.optimizer.get() == optimizer) backward_objective(objective, batch, sizes);
      if (last) update_objectives(*optimizer, &batch);
    }
    finish_pass(last, result);
  } catch (...) {
    abandon_batch();
    throw;
  }
  report_progress();
}

// Counts the micro-step and says what there is to say of it.
void Trainer::finish_pass(bool last, mpt_step_result* result) {
  micro_step_ = last ? 0 : micro_step_ + 1;
  for (Objective& objective : objectives_) {
    if (last) continue;
    mpt_step_result& r = objective.result;
    r = mpt_step_result{};
    r.loss = objective.loss_sum / micro_step_;
    r.scale = objective.scale;
    r.gradient_norm = std::nan("");
    r.learning_rate = objective.optimizer->learning_rate();
    r.applied_steps = objective.optimizer->applied_steps();
    r.skipped_steps = objective.scaler->numbers().skipped;
    r.micro_step = micro_step_;
  }
  if (result) *result = objectives_[0].result;
}

double Trainer::backward(const Batch& batch) {
  require_trainable("run a backward pass");
  begin_call();
  if (backward_done_)
    fail(MPT_ERROR_INVALID_STATE, "all micro-steps of this update were run: mpt_trainer_update comes next");
  const Sizes sizes = bind_sizes(model_->graph, model_->context->backend(), batch.inputs, batch.count);
  split_ = true;
  check_batch(batch, sizes);
  started_ = true;
  try {
    for (Objective& objective : objectives_) backward_objective(objective, batch, sizes);
  } catch (...) {
    abandon_batch();
    throw;
  }
  ++micro_step_;
  backward_done_ = micro_step_ == accumulation_steps_;
  return objectives_[0].loss_sum / micro_step_;
}

void Trainer::update(mpt_step_result* result) {
  require_trainable("update");
  begin_call();
  if (!backward_done_)
    fail(MPT_ERROR_INVALID_STATE, "%d of %d backward passes were run since the last update", micro_step_,
         accumulation_steps_);
  try {
    std::vector<Optimizer*> done;
    for (const Objective& objective : objectives_) {
      if (std::find(done.begin(), done.end(), objective.optimizer.get()) != done.end()) continue;
      done.push_back(objective.optimizer.get());
      update_objectives(*objective.optimizer, nullptr);
    }
    backward_done_ = false;
    finish_pass(true, result);
  } catch (...) {
    abandon_batch();
    throw;
  }
  report_progress();
}

void Trainer::report_progress() {
  if (!progress_) return;
  mpt_step_result r = objectives_[0].result;
  r.struct_size = sizeof r;
  if (progress_(progress_user_, &r) != 0) fail(MPT_ERROR_CANCELLED, "the progress callback ended the call");
}

const mpt_step_result& Trainer::objective_result(int32_t objective) {
  MPT_CHECK_ARGUMENT(objective >= 0 && objective < static_cast<int32_t>(objectives_.size()),
                     "objective is %d, expected 0 to %d", objective, static_cast<int>(objectives_.size()) - 1);
  hear_all(true, nullptr);
  return objectives_[objective].result;
}

double Trainer::evaluate(const Batch& batch, bool use_average) {
  PlanRequest request;
  request.outputs = {objectives_[0].loss};
  request.sizes = bind_sizes(model_->graph, model_->context->backend(), batch.inputs, batch.count);
  request.fp32_weights = use_average;
  if (use_average) {
    const std::vector<float*> found = averages();
    if (std::all_of(found.begin(), found.end(), [](float* p) { return p == nullptr; }))
      fail(MPT_ERROR_INVALID_STATE, "there is no weight average: set average_decay in the optimizer's options");
  }
  Plan& plan = prepare(use_average ? "evaluate average" : "evaluate", std::move(request), use_average);
  check_inputs_complete(plan, batch.inputs, batch.count, true);
  values_readable_ = false;
  stage_inputs(plan, model_->context->backend(), batch.inputs, batch.count);
  run(plan, step_vars(objectives_[0]));
  return read_scalar(model_->context->backend(), plan, plan.value_of(objectives_[0].loss));
}

void Trainer::read_value(const Plan& plan, ValueId value, const mpt_array& out, const std::string& who) {
  const Value& v = plan.graph().value(value);
  if (on_device(out)) {
    if (shape_of(out) != v.shape)
      fail(MPT_ERROR_INVALID_ARGUMENT, "%s: the array has shape %s, the tensor %s", who.c_str(),
           shape_of(out).text().c_str(), v.shape.text().c_str());
    check_conversion(v.dtype, static_cast<DType>(out.dtype), who);
    model_->context->backend().convert(with_strides(out), dense_array(plan.pointer(value), v.dtype, v.shape), 1);
    return;
  }
  const auto bytes = static_cast<uint64_t>(v.shape.elements()) * size_of(v.dtype);
  if (model_->context->backend().host_memory()) {
    write_array(plan.pointer(value), v.dtype, v.shape, out, who);
    return;
  }
  std::vector<unsigned char> host(bytes);
  model_->context->backend().copy_out(host.data(), plan.pointer(value), bytes);
  write_array(host.data(), v.dtype, v.shape, out, who);
}

void Trainer::predict(const Batch& batch, const mpt_array* outputs, int32_t n_outputs) {
  MPT_CHECK_ARGUMENT(n_outputs >= 1 && outputs, "outputs is NULL or n_outputs is %d, expected at least 1", n_outputs);
  PlanRequest request;
  for (int32_t i = 0; i < n_outputs; ++i) {
    MPT_CHECK_ARGUMENT(outputs[i].name, "outputs[%d].name is NULL", i);
    check_array(outputs[i], "output '" + std::string(outputs[i].name) + "'", &model_->context->backend());
    const ValueId id = model_->graph.find(outputs[i].name);
    MPT_CHECK_ARGUMENT(id != none, "the model has no tensor '%s'", outputs[i].name);
    request.outputs.push_back(id);
  }
  request.sizes = bind_sizes(model_->graph, model_->context->backend(), batch.inputs, batch.count);
  const std::vector<ValueId> ids = request.outputs;
  Plan& plan = prepare("predict", std::move(request), false);
  check_inputs_complete(plan, batch.inputs, batch.count, false);
  for (int32_t i = 0; i < n_outputs; ++i)
    if (const Shape& shape = plan.graph().shape(plan.value_of(ids[i])); shape != shape_of(outputs[i]))
      fail(MPT_ERROR_INVALID_ARGUMENT, "output '%s': the array has shape %s, the tensor %s", outputs[i].name,
           shape_of(outputs[i]).text().c_str(), shape.text().c_str());
  values_readable_ = false;
  stage_inputs(plan, model_->context->backend(), batch.inputs, batch.count);
  run(plan, step_vars(objectives_[0]));
  for (int32_t i = 0; i < n_outputs; ++i)
    read_value(plan, plan.value_of(ids[i]), outputs[i], "output '" + std::string(outputs[i].name) + "'");
}

void Trainer::keep(const std::string& name) {
  const bool gradient = name.size() > 5 && name.compare(name.size() - 5, 5, ".grad") == 0;
  const std::string tensor = gradient ? name.substr(0, name.size() - 5) : name;
  MPT_CHECK_ARGUMENT(model_->graph.find(tensor) != none, "the model has no tensor '%s'", tensor.c_str());
  if (std::find(kept_.begin(), kept_.end(), name) == kept_.end()) kept_.push_back(name);
}

void Trainer::fetch(const mpt_array& out) {
  MPT_CHECK_ARGUMENT(out.name, "the array has no name");
  const std::string name = out.name;
  check_array(out, "'" + name + "'", &model_->context->backend());
  if (std::find(kept_.begin(), kept_.end(), name) == kept_.end())
    fail(MPT_ERROR_INVALID_STATE, "'%s' is not kept: call mpt_trainer_keep before the step", name.c_str());
  if (!last_plan_ || !values_readable_ || workspace_->writer != this)
    fail(MPT_ERROR_INVALID_STATE, "'%s' is not there: the last call on this workspace was no training step",
         name.c_str());
  const bool gradient = name.size() > 5 && name.compare(name.size() - 5, 5, ".grad") == 0;
  const ValueId id = model_->graph.find(gradient ? name.substr(0, name.size() - 5) : name);
  const ValueId value = gradient ? last_plan_->gradient_of(id) : last_plan_->value_of(id);
  if (value == none || !last_plan_->is_kept(value))
    fail(MPT_ERROR_INVALID_STATE, "'%s' is not part of the last step", name.c_str());
  read_value(*last_plan_, value, out, "'" + name + "'");
}

}  // namespace mpt
