#include "runtime/device_steps.h"

namespace mpt {

DeviceSteps::DeviceSteps(std::unique_ptr<StepEngine> engine, std::shared_ptr<Optimizer> optimizer,
                         std::shared_ptr<Scaler> scaler)
    : engine_(std::move(engine)), optimizer_(std::move(optimizer)), scaler_(std::move(scaler)) {}

DeviceSteps::~DeviceSteps() {
  try {
    bring_home();
  } catch (...) {  // the device is lost, and with it what it knew
  }
  if (scaler_->source() == this) scaler_->follow(nullptr);
  if (optimizer_->source_of_state() == this) optimizer_->follow(nullptr);
}

// Another trainer may have moved the same optimizer or scaler on: what it knows comes home first.
void DeviceSteps::take_over() {
  if (scaler_->source() == this && optimizer_->source_of_state() == this) return;
  bring_home();
  (void)scaler_->numbers();
  (void)optimizer_->applied_steps();
  scaler_->follow(this);
  optimizer_->follow(this);
  agreed_ = false;
}

void DeviceSteps::prepare(uint64_t seed) {
  take_over();
  agreed_ = agreed_ && !restart_ && state_.vars.seed == seed && scaler_version_ == scaler_->version() &&
            optimizer_version_ == optimizer_->version();
  if (agreed_) return;
  // The host's changes come on top of what the device has done.
  if (ahead_) {
    const StepState now = engine_->read();
    if (scaler_version_ == scaler_->version()) scaler_->adopt(now.scaler);
    if (optimizer_version_ == optimizer_->version()) optimizer_->adopt(now.applied);
    state_ = now;
    ahead_ = false;
  }
  state_.vars.seed = seed;
  state_.scaler = scaler_->numbers();
  state_.applied = optimizer_->applied_steps();
  state_.base_rate = optimizer_->base_rate();
  if (restart_) state_.micro_steps = 0;
  restart_ = false;
  engine_->write(state_);
  scaler_version_ = scaler_->version();
  optimizer_version_ = optimizer_->version();
  agreed_ = true;
}

void DeviceSteps::run(StepProgram& program, bool update) {
  ahead_ = true;
  const uint64_t number = engine_->run(program);
  if (update) enqueued_ = number + 1;
}

// Of the steps behind the one that failed nothing is told.
void DeviceSteps::abandon() {
  restart_ = true;
  told_ = enqueued_;
}

void DeviceSteps::collect(bool wait, const std::function<void(const StepOutcome&)>& told) {
  if (enqueued_ > StepEngine::kept && told_ < enqueued_ - StepEngine::kept) told_ = enqueued_ - StepEngine::kept;
  while (told_ < enqueued_) {
    StepOutcome outcome;
    if (!engine_->outcome(told_, wait, &outcome)) return;
    ++told_;
    told(outcome);
  }
}

double DeviceSteps::loss_so_far() {
  const StepState now = engine_->read();
  return now.micro_steps > 0 ? now.loss_sum / now.micro_steps : 0;
}

void DeviceSteps::bring_home() {
  if (!ahead_) return;
  ahead_ = false;  // first: adopting asks nobody
  state_ = engine_->read();
  if (scaler_version_ == scaler_->version()) scaler_->adopt(state_.scaler);
  if (optimizer_version_ == optimizer_->version()) optimizer_->adopt(state_.applied);
}

}  // namespace mpt
