// The small kernels between a step's passes: they decide on the device whether an update is applied and how the scale changes,
// so that nothing waits for the host.
#pragma once

#include "kernels/flat_passes.h"
#include "kernels/launch.h"
#include "kernels/numerics/step_state.h"

namespace mpt::cuda {

// All pointers are device memory but `outcomes`, which is pinned host memory that the device can write: a ring of
// `outcome_slots` entries.
struct StepPointers {
  StepState* state;
  FlatControl* control;
  StepOutcome* outcomes;
  uint32_t outcome_slots;
  const StepRules* rules;
};

// Before a pass: the variables that its ops read.
void step_begin(const StepPointers& step, Stream stream);
// After a pass: adds its loss and counts the micro-step.
void step_add_loss(const StepPointers& step, const void* loss, Element type, Stream stream);
// Before the check of the gradients: the scale that they carry.
void step_prepare_check(const StepPointers& step, Stream stream);
// After it: whether the update is applied, and with what.
void step_decide(const StepPointers& step, Stream stream);
// After the update: counts, the scale, and the outcome.
void step_finish(const StepPointers& step, Stream stream);

}  // namespace mpt::cuda
