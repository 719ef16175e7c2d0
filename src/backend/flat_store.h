// A parameter store as a backend's flat passes see it: one table of segments, no per-tensor launches.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/dtype.h"
#include "kernels/numerics/optimizers.h"

namespace mpt {

struct Segment {
  int64_t count = 0;         // elements
  float* master = nullptr;   // FP32; null without a master copy (ablation): the 16-bit copy is the weight
  void* copy16 = nullptr;    // null for FP32 parameters
  void* gradient = nullptr;  // null or inactive: the parameter is left alone, no moments, no decay
  DType copy_dtype = DType::f32;
  DType gradient_dtype = DType::f32;
  float* moment1 = nullptr;  // null where the optimizer has none
  float* moment2 = nullptr;  // NovoGrad: one number per segment
  float* average = nullptr;  // null: no weight average
  float learning_rate_factor = 1;
  float weight_decay = 0;
  bool active = true;  // has a gradient in this step and is not frozen
};

struct FlatStore {
  // Work is split into pieces of at most this many elements, whatever the number of threads. Sums are formed piece by piece
  // and the pieces' sums added in a fixed order (kernels/numerics/piece_sum.h).
  static constexpr int64_t chunk = 16384;

  struct Piece {
    int32_t segment;
    int64_t begin, count;  // elements within the segment
  };
  // What one piece found; room for the passes, so that they need no memory of their own.
  struct Partial {
    double sum1, sum2;
    int64_t count;  // of non-finite elements or overflows
    int64_t first;  // the first of them within the segment; -1: none
  };

  std::vector<Segment> segments;
  std::vector<Piece> pieces;                    // of all segments, in order
  mutable std::vector<Partial> partials;        // one for each piece
  mutable std::vector<float> factors;           // one for each segment: trust ratios and the like
  mutable std::shared_ptr<void> device_tables;  // what a backend with memory of its own keeps of it there

  // To be called once the segments and their counts are complete.
  void split() {
    pieces.clear();
    for (std::size_t s = 0; s < segments.size(); ++s)
      for (int64_t begin = 0; begin < segments[s].count; begin += chunk) {
        const int64_t rest = segments[s].count - begin;
        pieces.push_back({static_cast<int32_t>(s), begin, rest < chunk ? rest : chunk});
      }
    partials.assign(pieces.size(), Partial{0, 0, 0, -1});
    factors.assign(segments.size(), 1.0f);
  }
};

struct CheckArgs {
  double inverse_scale = 1;  // exact: a power of two
  double clip_value = 0;     // the norm is taken after clipping by value
};
// A pass adds to what is there. Only segments that are active count.
struct CheckResult {
  double sum_of_squares = 0;   // of the unscaled (and by value clipped) gradients, in double, fixed order
  int64_t non_finite = 0;      // elements
  int32_t first_segment = -1;  // the first with a non-finite element
  int64_t first_element = -1;  // within that segment
};

struct UpdateArgs {
  OptimizerHyper hyper;  // kind, betas, epsilon, ... : kernels/numerics/optimizers.h
  double learning_rate = 0;
  uint64_t step = 1;  // applied updates, this one included: bias correction
  float inverse_scale = 1;
  float clip_factor = 1;  // of the global norm
  float clip_value = 0;
  float average_decay = 0;
};
struct UpdateResult {
  int64_t overflows_16bit = 0;  // finite masters that are not finite in 16 bits
  int32_t first_overflow = -1;  // segment
};

}  // namespace mpt
