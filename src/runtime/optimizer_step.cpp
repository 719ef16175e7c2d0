// One update: check, then all of it or nothing.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "runtime/optimizer.h"

namespace mpt {

std::string GradientCheck::text(const Params& params) const {
  if (slot < 0) return finite ? "all gradients are finite" : "the norm of the gradients is not finite";
  return "the gradient of '" + params.parameter(slot).name + "' is not finite at element " + std::to_string(element) +
         ", the first of " + std::to_string(non_finite);
}

// Makes the segments with a gradient active and sees to it that all carry the scale that `scaler` has now.
void Optimizer::select_gradients(const Scaler* scaler, const char* who) {
  source_ = Source::none;
  if (layout_ != params_->layout()) build_segments();
  const uint64_t id = scaler != nullptr ? scaler->id() : 0;
  const uint64_t epoch = scaler != nullptr ? scaler->epoch() : 0;
  const GradientState* first = nullptr;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const GradientState& state = params_->gradient_state(slots_[i]);
    const char* name = params_->parameter(slots_[i]).name.c_str();
    Segment& segment = store_.segments[i];
    segment.active = state.present && frozen_[i] == 0;
    segment.gradient = params_->data(slots_[i], Part::gradient);
    segment.gradient_dtype = params_->dtype(slots_[i], Part::gradient);
    if (!state.present) continue;
    if (state.scaler != id)
      fail(MPT_ERROR_INVALID_STATE, "%s: the gradient of '%s' carries the scale of %s, expected that of %s", who, name,
           state.scaler == 0 ? "no scaler" : "another scaler", id == 0 ? "none" : "the scaler given");
    if (state.epoch != epoch)
      fail(MPT_ERROR_INVALID_STATE,
           "%s: the gradient of '%s' carries the scale %g of before the scaler's last update, expected that of now",
           who, name, state.scale);
    if (first == nullptr) first = &state;
    if (state.unscaled != first->unscaled)
      fail(MPT_ERROR_INVALID_STATE, "%s: the gradient of '%s' is %s, expected all to be alike", who, name,
           state.unscaled ? "unscaled and others are not" : "scaled and others are not");
  }
  if (first == nullptr)
    fail(MPT_ERROR_INVALID_STATE,
         "%s: found no gradients, expected mpt_scaler_begin and a backward pass since the last update", who);
  inverse_scale_ = first->unscaled ? 1 : 1 / first->scale;
  source_ = Source::gradients;
}

void Optimizer::select_sums() {
  source_ = Source::none;
  if (layout_ != params_->layout()) build_segments();
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    Segment& segment = store_.segments[i];
    segment.active = summed_[i] != 0 && frozen_[i] == 0;
    segment.gradient = sum_[i];
    segment.gradient_dtype = DType::f32;
  }
  inverse_scale_ = 1;
  source_ = Source::sums;
}

GradientCheck Optimizer::run_check() {
  CheckArgs args;
  args.inverse_scale = inverse_scale_;
  args.clip_value = clip_value_;
  CheckResult result;
  Backend& backend = *params_->backend();
  execute_on(backend, [&] { backend.check_gradients(store_, args, &result); });
  GradientCheck check;
  check.non_finite = result.non_finite;
  check.finite = result.non_finite == 0 && std::isfinite(result.sum_of_squares);
  check.norm = check.finite ? std::sqrt(result.sum_of_squares) : std::numeric_limits<double>::quiet_NaN();
  if (result.first_segment >= 0) {
    check.slot = slots_[result.first_segment];
    check.element = result.first_element;
  }
  return check;
}

GradientCheck Optimizer::check(const Scaler* scaler, const char* who) {
  select_gradients(scaler, who);
  return run_check();
}

GradientCheck Optimizer::check_sums() {
  select_sums();
  return run_check();
}

UpdateReport Optimizer::apply(const GradientCheck& check) {
  if (source_ == Source::none)
    fail(MPT_ERROR_INVALID_STATE, "update: found no checked gradients, expected a check before it");
  MPT_INVARIANT(check.finite);
  UpdateReport report;
  report.learning_rate = learning_rate();  // and what a device knows is at home
  UpdateArgs args;
  args.hyper = hyper_;
  args.learning_rate = report.learning_rate;
  args.step = applied_steps_ + 1;
  args.inverse_scale = static_cast<float>(inverse_scale_);
  args.clip_value = static_cast<float>(clip_value_);
  args.average_decay = static_cast<float>(average_decay_);
  args.clip_factor = clip_factor_of(check.norm, clip_norm_);

  if (applied_steps_ == 0) seed_averages();
  UpdateResult result;
  Backend& backend = *params_->backend();
  const bool sample = statistics_every_ > 0 && args.step % static_cast<uint64_t>(statistics_every_) == 0;
  mpt_update_statistics sampled{};
  execute_on(backend, [&] {
    if (sample) backend.statistics(store_, args, &sampled);
    backend.update(store_, args, &result);
  });
  if (sample) {
    statistics_ = sampled;
    statistics_.update = args.step;
  }
  ++applied_steps_;
  ++version_;
  report.overflows_16bit = result.overflows_16bit;
  report_overflows(result);
  forget_gradients();
  return report;
}

void Optimizer::skip() { forget_gradients(); }

void Optimizer::forget_gradients() {
  if (source_ == Source::gradients)
    for (const int32_t slot : slots_) params_->gradient_state(slot).present = false;
  if (source_ == Source::sums) clear_sums();
  source_ = Source::none;
}

void Optimizer::report_overflows(const UpdateResult& result) {
  if (result.overflows_16bit > overflows_reported_ && result.first_overflow >= 0)
    params_->log(MPT_LOG_WARNING, "update " + std::to_string(applied_steps_) + ": " +
                                      std::to_string(result.overflows_16bit) + " weights are beyond the range of " +
                                      name_of(params_->storage_dtype()) + ", the first in '" +
                                      params_->parameter(slots_[result.first_overflow]).name + "'");
  overflows_reported_ = result.overflows_16bit;
}

void Optimizer::clear_sums() { std::fill(summed_.begin(), summed_.end(), char{0}); }

void Optimizer::gather(const Scaler* scaler, const char* who) {
  MPT_INVARIANT(sums_.bytes() != 0);
  select_gradients(scaler, who);
  std::vector<char> arriving(slots_.size());
  for (std::size_t i = 0; i < slots_.size(); ++i) arriving[i] = store_.segments[i].active;
  Backend& backend = *params_->backend();
  // Sums that hold nothing yet are written, the others added to.
  for (const bool first : {true, false}) {
    bool any = false;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      store_.segments[i].active = arriving[i] != 0 && (summed_[i] == 0) == first;
      any = any || store_.segments[i].active;
    }
    if (any)
      execute_on(backend,
                 [&] { backend.accumulate_gradients(store_, sum_.data(), static_cast<float>(inverse_scale_), first); });
    if (!first) break;
    // What was written just now must not be added once more.
    for (std::size_t i = 0; i < slots_.size(); ++i)
      if (store_.segments[i].active) {
        summed_[i] = 1;
        arriving[i] = 0;
      }
  }
  forget_gradients();
}

void Optimizer::step(Scaler* scaler, mpt_step_result* result, const char* who) {
  // Without a scaler nothing marks the gradients: they are what is in the buffers.
  if (scaler == nullptr) {
    bool any = false;
    for (const int32_t slot : slots_) any = any || params_->gradient_state(slot).present;
    if (!any) params_->begin_gradients(nullptr);
  }
  Scaler& used = scaler != nullptr ? *scaler : scaler_off_;
  const GradientCheck found = check(scaler, who);
  const double rate = learning_rate();
  const double scale = used.scale();
  const Scaler::Change change = used.change(!found.finite, found.finite);
  if (change.limit_reached && used.skip_policy() != MPT_SKIP_CONTINUE)
    fail(MPT_ERROR_NUMERIC, "%s: update %d in a row to be skipped, at a scale of %g that cannot be lowered: %s", who,
         change.numbers.skips_in_a_row, scale, found.text(*params_).c_str());
  UpdateReport report;
  if (found.finite) {
    report = apply(found);
  } else {
    skip();
  }
  used.commit(change);
  if (result == nullptr) return;
  result->skipped = found.finite ? 0 : 1;
  result->loss = std::numeric_limits<double>::quiet_NaN();
  result->scale = scale;
  result->gradient_norm = found.norm;
  result->learning_rate = rate;
  result->applied_steps = applied_steps();
  result->skipped_steps = used.numbers().skipped;
  result->micro_step = 0;
  result->fp16_overflows = static_cast<int32_t>(std::min<int64_t>(report.overflows_16bit, INT32_MAX));
}

}  // namespace mpt
