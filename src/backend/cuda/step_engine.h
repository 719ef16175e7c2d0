// Steps that decide on the device: recorded once, replayed as one launch.
#pragma once

#include <memory>

#include "backend/cuda/flat_passes.h"
#include "backend/cuda/lib/device.h"
#include "backend/step_engine.h"

namespace mpt::cuda {

// table: of the schedule in `rules`, host memory, copied.
std::unique_ptr<StepEngine> make_step_engine(Device& device, Stream stream, FlatPasses& passes, const StepRules& rules);

}  // namespace mpt::cuda
