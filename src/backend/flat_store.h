// A parameter store as a backend's flat passes see it: one table of segments, no per-tensor launches.
#pragma once

#include <cstdint>
#include <vector>

#include "core/dtype.h"
#include "kernels/numerics/optimizers.h"

namespace mpt {

struct Segment {
  int64_t count = 0;             // elements
  float* master = nullptr;       // FP32; null without a master copy (ablation)
  void* copy16 = nullptr;        // null for FP32 parameters
  void* gradient = nullptr;      // null or inactive: the parameter is left alone, no moments, no decay
  DType copy_dtype = DType::f32;
  DType gradient_dtype = DType::f32;
  float* moment1 = nullptr;      // null where the optimizer has none
  float* moment2 = nullptr;      // NovoGrad: one number per segment
  float* average = nullptr;      // null: no weight average
  float learning_rate_factor = 1;
  float weight_decay = 0;
  bool active = true;            // has a gradient in this step and is not frozen
};

struct FlatStore {
  std::vector<Segment> segments;
  // Work is split into pieces of at most this many elements, whatever the number of threads.
  static constexpr int64_t chunk = 16384;
};

struct CheckArgs {
  double inverse_scale = 1;
  double clip_value = 0;  // the norm is taken after clipping by value
};
struct CheckResult {
  double sum_of_squares = 0;  // of the unscaled (and by value clipped) gradients, in double, fixed order
  int64_t non_finite = 0;     // elements
  int32_t first_segment = -1; // the first with a non-finite element
  int64_t first_element = -1;
};

struct UpdateArgs {
  OptimizerHyper hyper;       // kind, betas, epsilon, ... : kernels/numerics/optimizers.h
  double learning_rate = 0;
  uint64_t step = 1;          // applied updates, this one included: bias correction
  float inverse_scale = 1;
  float clip_factor = 1;      // of the global norm
  float clip_value = 0;
  float average_decay = 0;
};
struct UpdateResult {
  int64_t overflows_16bit = 0;      // finite masters that are not finite in 16 bits
  int32_t first_overflow = -1;      // segment
};

}  // namespace mpt
