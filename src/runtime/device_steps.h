// One objective's steps on a device that decides for itself: what of optimizer and scaler is on the device, and what came of
// the steps that were enqueued.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "backend/step_engine.h"
#include "runtime/optimizer.h"
#include "runtime/scaler.h"
#include "runtime/state_source.h"

namespace mpt {

class DeviceSteps final : public StateSource {
 public:
  DeviceSteps(std::unique_ptr<StepEngine> engine, std::shared_ptr<Optimizer> optimizer, std::shared_ptr<Scaler> scaler);
  ~DeviceSteps() override;
  DeviceSteps(const DeviceSteps&) = delete;
  DeviceSteps& operator=(const DeviceSteps&) = delete;

  StepEngine& engine() { return *engine_; }

  // Sends what the host has changed since. Before every run.
  void prepare(uint64_t seed);
  void run(StepProgram& program, bool update);
  // The micro-steps gathered so far never were.
  void abandon();

  // Calls `told` for every step that is over and was not told yet, in order; waits for those that are not over.
  void collect(bool wait, const std::function<void(const StepOutcome&)>& told);
  double loss_so_far();  // mean over the micro-steps gathered; waits

  void bring_home() override;

 private:
  void take_over();

  std::unique_ptr<StepEngine> engine_;
  std::shared_ptr<Optimizer> optimizer_;
  std::shared_ptr<Scaler> scaler_;
  StepState state_;       // as it was when host and device agreed
  bool agreed_ = false;   // the device has the host's state
  bool ahead_ = false;    // the device has gone on since
  bool restart_ = false;  // micro-steps are to be dropped
  uint64_t scaler_version_ = 0, optimizer_version_ = 0;
  uint64_t enqueued_ = 0, told_ = 0;  // outcomes
};

}  // namespace mpt
