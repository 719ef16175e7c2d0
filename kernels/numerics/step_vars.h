// What changes from step to step, in one struct on the device: kernels read it through a pointer, so that a recorded step can
// be replayed.
#pragma once

#include <stdint.h>

namespace mpt {

struct StepVars {
  uint64_t seed;
  uint64_t step;        // applied updates before this one
  uint32_t micro_step;  // of gradient accumulation
  uint32_t rank;
  float loss_scale;
  float loss_weight;  // 1 / micro-steps per update
};

}  // namespace mpt
