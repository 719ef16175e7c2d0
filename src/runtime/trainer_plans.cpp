// The trainer's compiled plans: found by shape, compiled when a shape is new, bound to the workspace.
#include <algorithm>

#include "runtime/memory_report.h"
#include "runtime/trainer.h"

namespace mpt {
namespace {

std::string key_of(const std::string& kind, const PlanRequest& request) {
  std::string key = kind;
  for (const auto& [name, size] : request.sizes) key += ";" + name + "=" + std::to_string(size);
  for (ValueId id : request.outputs) key += ";o" + std::to_string(id);
  for (ValueId id : request.keep) key += ";k" + std::to_string(id);
  for (ValueId id : request.keep_gradients) key += ";g" + std::to_string(id);
  return key;
}

}  // namespace

// A plan that is compiled, has its memory and knows where everything is.
Plan& Trainer::prepare(const std::string& kind, PlanRequest request, bool use_averages) {
  request.demoted = demoted_;
  const std::string key = key_of(kind, request);
  auto found = plans_.begin();
  while (found != plans_.end() && found->key != key) ++found;
  if (found == plans_.end()) {
    CachedPlan cached;
    cached.key = key;
    cached.plan = std::make_unique<Plan>(model_->context, *model_, *params_, request, params_->config().precision);
    cached.request = std::move(request);
    model_->context->log(MPT_LOG_DEBUG, "compiled %s: %llu bytes of activations, %llu of scratch", key.c_str(),
                         static_cast<unsigned long long>(cached.plan->activation_bytes()),
                         static_cast<unsigned long long>(cached.plan->scratch_bytes()));
    plans_.push_front(std::move(cached));
    while (static_cast<int32_t>(plans_.size()) > max_plans_) {
      if (plans_.back().plan.get() == last_plan_) last_plan_ = nullptr;
      plans_.pop_back();
    }
  } else {
    plans_.splice(plans_.begin(), plans_, found);
  }
  CachedPlan& cached = plans_.front();
  workspace_->require(cached.plan->memory().arena_bytes);
  if (use_averages || cached.workspace_generation != workspace_->generation() ||
      cached.params_layout != params_->layout()) {
    cached.gather.reset();  // recorded with the pointers of before
    cached.update.reset();
    const std::vector<float*> pointers = use_averages ? averages() : std::vector<float*>();
    cached.plan->bind(*params_, workspace_->data(), use_averages ? &pointers : nullptr);
    cached.workspace_generation = workspace_->generation();
    cached.params_layout = params_->layout();
  }
  return *cached.plan;
}

std::vector<float*> Trainer::averages() const {
  std::vector<float*> pointers(params_->count(), nullptr);
  for (const Objective& objective : objectives_)
    for (int32_t slot = 0; objective.optimizer && slot < params_->count(); ++slot)
      if (float* average = objective.optimizer->average(slot)) pointers[slot] = average;
  return pointers;
}

Plan& Trainer::training_plan(const Objective& objective, Sizes sizes) {
  PlanRequest request;
  request.loss = objective.loss;
  request.sizes = std::move(sizes);
  request.accumulate = accumulation_steps_ > 1 && !uses_sums(objective);
  request.activation_budget = activation_budget_;
  request.parameters.assign(params_->count(), false);
  for (int32_t slot : objective.optimizer->slots()) request.parameters[slot] = objective.optimizer->trains(slot);
  for (const std::string& name : kept_) {
    const bool gradient = name.size() > 5 && name.compare(name.size() - 5, 5, ".grad") == 0;
    const ValueId id = model_->graph.find(gradient ? name.substr(0, name.size() - 5) : name);
    (gradient ? request.keep_gradients : request.keep).push_back(id);
  }
  last_request_ = request;
  has_last_request_ = true;
  std::string frozen;  // groups may be added between steps
  for (bool trained : request.parameters) frozen += trained ? '1' : '0';
  return prepare("train " + std::to_string(objective.loss) + " " + frozen, std::move(request), false);
}

StepVars Trainer::step_vars(const Objective& objective) const {
  StepVars vars{};
  vars.seed = seed_;
  if (objective.optimizer) vars.step = objective.optimizer->applied_steps();
  vars.micro_step = static_cast<uint32_t>(micro_step_);
  vars.loss_scale = objective.scaler ? static_cast<float>(objective.scaler->scale()) : 1.0f;
  vars.loss_weight = 1.0f / static_cast<float>(accumulation_steps_);
  return vars;
}

void Trainer::run(Plan& plan, const StepVars& vars) {
  struct Work {
    Plan& plan;
    const StepVars& vars;
    const std::atomic<bool>* cancel;
  } work{plan, vars, &cancelled_};
  workspace_->writer = this;
  model_->context->backend().execute(
      [](void* argument) {
        auto& w = *static_cast<Work*>(argument);
        w.plan.run(w.vars, w.cancel);
      },
      &work);
}

void Trainer::memory(mpt_memory_report* out) {
  if (!has_last_request_) fail(MPT_ERROR_INVALID_STATE, "no step has run yet: there is no plan to report on");
  std::vector<const Optimizer*> optimizers;
  for (const Objective& objective : objectives_)
    if (std::find(optimizers.begin(), optimizers.end(), objective.optimizer.get()) == optimizers.end())
      optimizers.push_back(objective.optimizer.get());
  PlanRequest request = last_request_;
  request.demoted = demoted_;
  report_memory(model_->context, *model_, *params_, request, optimizers, nullptr, out);
}

std::string Trainer::text() const {
  if (!last_plan_) fail(MPT_ERROR_INVALID_STATE, "no step has run yet: there is no plan to show");
  return last_plan_->text();
}

}  // namespace mpt
