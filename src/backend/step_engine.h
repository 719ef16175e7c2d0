// Training steps of a device that decides for itself whether an update is applied and how the loss scale changes: the host
// enqueues steps and reads their outcomes when it wants to know. One engine for each optimizer and its scaler.
#pragma once

#include <cstdint>
#include <memory>

#include "backend/flat_store.h"
#include "kernels/numerics/step_state.h"

namespace mpt {

// What a step is made of.
struct StepWork {
  // Enqueues a pass, forward and backward, that reads its variables from `vars` (device memory).
  void (*pass)(void* self, const StepVars* vars) = nullptr;
  void* self = nullptr;
  const void* loss = nullptr;  // device memory, one element
  DType loss_dtype = DType::f32;
  const FlatStore* store = nullptr;  // outlives the program; its segments may change between runs
  OptimizerHyper hyper;
  bool update = true;  // false: a micro-step that is not the last
  bool averages = false;
  bool recorded = true;  // as one launch; else kernel by kernel
};

class StepProgram {
 public:
  virtual ~StepProgram() = default;
};

class StepEngine {
 public:
  virtual ~StepEngine() = default;

  // The state on the device; read() waits for the steps that were enqueued.
  virtual void write(const StepState& state) = 0;
  virtual StepState read() = 0;

  virtual std::unique_ptr<StepProgram> make_program(const StepWork& work) = 0;
  // Enqueues. Returns the number of the outcome, for programs with an update.
  virtual uint64_t run(StepProgram& program) = 0;
  // Of the step of that number, one of the last `kept`. False: it has not finished, and `wait` is false.
  virtual bool outcome(uint64_t number, bool wait, StepOutcome* out) = 0;
  static constexpr uint64_t kept = 64;
};

}  // namespace mpt
