// Creation and settings of an optimizer, and the memory of its moments.
#include "runtime/optimizer.h"

#include <cmath>

#include "core/error.h"
#include "runtime/pattern.h"

namespace mpt {
namespace {

void require_rate(const char* who, const char* what, double x) {
  MPT_CHECK_ARGUMENT(std::isfinite(x) && x >= 0, "%s: %s: found %g, expected a finite number of 0 or more", who, what,
                     x);
}
void require_below_one(const char* who, const char* what, double x) {
  MPT_CHECK_ARGUMENT(x >= 0 && x < 1, "%s: %s: found %g, expected at least 0 and less than 1", who, what, x);
}

void check_options(const mpt_optimizer_options& o, const char* who) {
  MPT_CHECK_ARGUMENT(o.kind >= MPT_SGD && o.kind <= MPT_LION, "%s: kind: found %d, expected MPT_SGD to MPT_LION", who,
                     o.kind);
  require_rate(who, "learning_rate", o.learning_rate);
  require_below_one(who, "beta1", o.beta1);
  require_below_one(who, "beta2", o.beta2);
  require_rate(who, "epsilon", o.epsilon);
  // 0 / 0 for an element that never had a gradient.
  const bool divides = o.kind == MPT_ADAM || o.kind == MPT_ADAMW || o.kind == MPT_LAMB || o.kind == MPT_ADAGRAD;
  MPT_CHECK_ARGUMENT(!divides || static_cast<float>(o.epsilon) > 0,
                     "%s: epsilon: found %g, expected more than 0 in FP32", who, o.epsilon);
  require_rate(who, "weight_decay", o.weight_decay);
  require_below_one(who, "momentum", o.momentum);
  MPT_CHECK_ARGUMENT(o.nesterov == 0 || o.nesterov == 1, "%s: nesterov: found %d, expected 0 or 1", who, o.nesterov);
  MPT_CHECK_ARGUMENT(o.nesterov == 0 || o.momentum > 0, "%s: nesterov: found momentum 0, expected more than 0", who);
  require_rate(who, "clip_norm", o.clip_norm);
  require_rate(who, "clip_value", o.clip_value);
  require_below_one(who, "average_decay", o.average_decay);
  MPT_CHECK_ARGUMENT(o.statistics_every >= 0, "%s: statistics_every: found %d, expected 0 or more", who,
                     o.statistics_every);
}

OptimizerHyper hyper_of(const mpt_optimizer_options& o) {
  OptimizerHyper hyper;
  hyper.kind = o.kind;
  hyper.beta1 = o.beta1;
  hyper.beta2 = o.beta2;
  hyper.epsilon = static_cast<float>(o.epsilon);
  hyper.momentum = static_cast<float>(o.momentum);
  hyper.nesterov = o.nesterov != 0;
  return hyper;
}

std::vector<int32_t> matching_slots(const Params& params, const char* pattern) {
  std::vector<int32_t> slots;
  for (int32_t slot = 0; slot < params.count(); ++slot)
    if (pattern == nullptr || matches_pattern(pattern, params.parameter(slot).name)) slots.push_back(slot);
  return slots;
}

uint64_t fp32_bytes(const Params& params, const std::vector<int32_t>& slots) {
  uint64_t bytes = 0;
  for (const int32_t slot : slots)
    bytes += padded_bytes(static_cast<uint64_t>(params.parameter(slot).count) * sizeof(float));
  return bytes;
}

// One FP32 tensor for each slot, from `offset` on.
std::vector<float*> carve(const DeviceMemory& memory, uint64_t* offset, const Params& params,
                          const std::vector<int32_t>& slots) {
  std::vector<float*> tensors;
  for (const int32_t slot : slots) {
    tensors.push_back(memory.at<float>(*offset));
    *offset += padded_bytes(static_cast<uint64_t>(params.parameter(slot).count) * sizeof(float));
  }
  return tensors;
}

}  // namespace

mpt_optimizer_options Optimizer::default_options(mpt_optimizer_kind kind, const char* who) {
  MPT_CHECK_ARGUMENT(kind >= MPT_SGD && kind <= MPT_LION, "%s: kind: found %d, expected MPT_SGD to MPT_LION", who,
                     kind);
  mpt_optimizer_options o{};
  o.kind = kind;
  o.learning_rate = 1e-3;
  o.beta1 = kind == MPT_NOVOGRAD ? 0.95 : 0.9;
  o.beta2 = kind == MPT_NOVOGRAD ? 0.98 : kind == MPT_LION ? 0.99 : 0.999;
  o.epsilon = kind == MPT_LAMB ? 1e-6 : kind == MPT_ADAGRAD ? 1e-10 : 1e-8;
  o.weight_decay = kind == MPT_ADAMW || kind == MPT_LAMB ? 0.01 : 0;
  return o;
}

uint64_t Optimizer::planned_bytes(const Params& params, const mpt_optimizer_options& options) {
  const OptimizerHyper hyper = hyper_of(options);
  const std::vector<int32_t> slots = matching_slots(params, options.pattern);
  const uint64_t one = fp32_bytes(params, slots);
  uint64_t bytes = 0;
  if (has_moment1(hyper)) bytes += one;
  if (has_moment2(hyper)) bytes += one;
  if (has_tensor_moment2(hyper)) bytes += padded_bytes(slots.size() * sizeof(float));
  if (options.average_decay > 0) bytes += one;
  return bytes;
}

Optimizer::Optimizer(std::shared_ptr<Params> params, const mpt_optimizer_options& options, const char* who)
    : params_(std::move(params)), scaler_off_(Scaler::off_options(), who) {
  check_options(options, who);
  if (!params_->allocated())
    fail(MPT_ERROR_INVALID_STATE, "%s: found a store without memory, expected mpt_params_allocate first", who);
  hyper_ = hyper_of(options);
  base_rate_ = options.learning_rate;
  weight_decay_ = options.weight_decay;
  clip_norm_ = options.clip_norm;
  clip_value_ = options.clip_value;
  average_decay_ = options.average_decay;
  statistics_every_ = options.statistics_every;
  if (options.schedule != nullptr) schedule_ = Schedule(*options.schedule, who);
  slots_ = matching_slots(*params_, options.pattern);
  MPT_CHECK_ARGUMENT(!slots_.empty(), "%s: pattern: found '%s', which fits no parameter", who,
                     options.pattern != nullptr ? options.pattern : "*");
  index_.assign(static_cast<std::size_t>(params_->count()), -1);
  for (std::size_t i = 0; i < slots_.size(); ++i) index_[slots_[i]] = static_cast<int32_t>(i);
  frozen_.assign(slots_.size(), 0);

  state_ = DeviceMemory(params_->backend(), planned_bytes(*params_, options));
  uint64_t offset = 0;
  const std::vector<float*> nothing(slots_.size(), nullptr);
  moment1_ = has_moment1(hyper_) ? carve(state_, &offset, *params_, slots_) : nothing;
  moment2_ = has_moment2(hyper_) ? carve(state_, &offset, *params_, slots_) : nothing;
  average_ = average_decay_ > 0 ? carve(state_, &offset, *params_, slots_) : nothing;
  if (has_tensor_moment2(hyper_)) {
    for (std::size_t i = 0; i < slots_.size(); ++i) moment2_[i] = state_.at<float>(offset + i * sizeof(float));
    offset += padded_bytes(slots_.size() * sizeof(float));
  }
  MPT_INVARIANT(offset == state_.bytes());
  sum_ = nothing;
  summed_.assign(slots_.size(), 0);
  build_segments();
  seed_averages();
}

void Optimizer::build_segments() {
  layout_ = params_->layout();
  store_.segments.clear();
  const FlatStore all = params_->flat_store();
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    Segment s = all.segments[slots_[i]];
    s.moment1 = moment1_[i];
    s.moment2 = moment2_[i];
    s.average = average_[i];
    s.weight_decay = static_cast<float>(weight_decay_);
    frozen_[i] = 0;
    for (const Group& group : groups_) {
      if (!matches_pattern(group.pattern, params_->parameter(slots_[i]).name)) continue;
      s.learning_rate_factor = static_cast<float>(group.learning_rate_factor);
      s.weight_decay = static_cast<float>(group.weight_decay < 0 ? weight_decay_ : group.weight_decay);
      frozen_[i] = group.frozen;
    }
    store_.segments.push_back(s);
  }
  store_.split();
}

// The averages begin as the weights are: when the optimizer is made, and again before the first update, since weights
// may have been set or loaded meanwhile.
void Optimizer::seed_averages() {
  if (average_decay_ == 0 || !params_->backend()->executes()) return;
  FlatStore weights = store_;
  for (Segment& s : weights.segments) {
    s.active = true;
    s.gradient = s.master != nullptr ? s.master : s.copy16;
    s.gradient_dtype = s.master != nullptr ? DType::f32 : s.copy_dtype;
  }
  Backend& backend = *params_->backend();
  execute_on(backend, [&] { backend.accumulate_gradients(weights, average_.data(), 1, true); });
}

int32_t Optimizer::add_group(const std::string& pattern, const mpt_group_options& options, const char* who) {
  require_rate(who, "learning_rate_factor", options.learning_rate_factor);
  MPT_CHECK_ARGUMENT(std::isfinite(options.weight_decay), "%s: weight_decay: found %g, expected a finite number", who,
                     options.weight_decay);
  MPT_CHECK_ARGUMENT(options.frozen == 0 || options.frozen == 1, "%s: frozen: found %d, expected 0 or 1", who,
                     options.frozen);
  int32_t matched = 0;
  for (const int32_t slot : slots_) matched += matches_pattern(pattern, params_->parameter(slot).name) ? 1 : 0;
  MPT_CHECK_ARGUMENT(matched > 0, "%s: pattern: found '%s', which fits none of the optimizer's %zu parameters", who,
                     pattern.c_str(), slots_.size());
  groups_.push_back({pattern, options.learning_rate_factor, options.weight_decay, options.frozen != 0});
  build_segments();
  source_ = Source::none;
  return matched;
}

bool Optimizer::trains(int32_t slot) const { return index_[slot] >= 0 && frozen_[index_[slot]] == 0; }

void Optimizer::set_learning_rate(double learning_rate, const char* who) {
  require_rate(who, "learning_rate", learning_rate);
  base_rate_ = learning_rate;
  ++version_;
}

double Optimizer::learning_rate() const { return base_rate_ * schedule_.factor(applied_steps()); }

StepRules Optimizer::step_rules(const ScalerRules& scaler, int32_t accumulation_steps) const {
  StepRules rules;
  rules.scaler = scaler;
  rules.schedule = schedule_.rule();
  rules.clip_norm = clip_norm_;
  rules.clip_value = clip_value_;
  rules.average_decay = average_decay_;
  rules.accumulation_steps = accumulation_steps;
  return rules;
}

const FlatStore& Optimizer::store_for(const std::vector<int32_t>& gradient_slots) {
  source_ = Source::none;
  if (layout_ != params_->layout()) build_segments();
  for (Segment& segment : store_.segments) segment.active = false;
  for (const int32_t slot : gradient_slots) {
    const int32_t i = index_[slot];
    if (i < 0 || frozen_[i] != 0) continue;
    Segment& segment = store_.segments[i];
    segment.active = true;
    segment.gradient = params_->data(slot, Part::gradient);
    segment.gradient_dtype = params_->dtype(slot, Part::gradient);
  }
  return store_;
}

float* Optimizer::average(int32_t slot) const { return index_[slot] < 0 ? nullptr : average_[index_[slot]]; }

uint64_t Optimizer::planned_sums_bytes() const { return fp32_bytes(*params_, slots_); }

void Optimizer::use_sums() {
  if (sums_.bytes() != 0) return;
  sums_ = DeviceMemory(params_->backend(), planned_sums_bytes());
  uint64_t offset = 0;
  sum_ = carve(sums_, &offset, *params_, slots_);
}

}  // namespace mpt
