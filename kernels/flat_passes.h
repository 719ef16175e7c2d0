// The flat passes over a parameter store: one launch for all tensors, by a table of pieces. What changes from step to step is
// read from FlatControl in device memory, so that a recorded step can be replayed.
#pragma once

#include "kernels/element.h"
#include "kernels/launch.h"
#include "kernels/numerics/optimizers.h"

namespace mpt::cuda {

// backend/flat_store.h's Segment in device memory.
struct FlatSegment {
  int64_t count;
  float* master;     // null: the 16-bit copy is the weight
  void* copy16;      // null for FP32 parameters
  void* gradient;
  float* moment1;    // null where the optimizer has none
  float* moment2;    // NovoGrad: one number
  float* average;    // null: none
  Element copy_type, gradient_type;
  float learning_rate_factor, weight_decay;
  int32_t active;    // has a gradient in this step and is not frozen
  int32_t vector;    // all pointers allow 16-byte accesses
};

struct FlatPiece {
  int32_t segment;
  int32_t pad;
  int64_t begin, count;
};

// What one piece found, before it is added up in order.
struct FlatPartial {
  double sum1, sum2;
  int64_t count, first;
};

// Tables and room in device memory; their addresses stay, their contents may change between steps.
struct FlatTables {
  const FlatSegment* segments;
  const FlatPiece* pieces;
  FlatPartial* partials;  // [pieces]
  float* factors;         // [segments]: trust ratios and the like
  int32_t n_segments, n_pieces;
};

struct FlatControl {
  // ---- of the check
  double inverse_scale, clip_value;
  // ---- found by it
  double sum_of_squares;   // of the unscaled (and by value clipped) gradients
  int64_t non_finite;      // elements
  int64_t first_element;   // within that segment
  int32_t first_segment;   // -1: none
  // ---- of the update
  int32_t apply;           // 0: the update's kernels return at once
  double learning_rate;
  uint64_t step;           // applied updates, this one included
  float clip_factor, average_decay;
  // ---- found by it
  int64_t overflows;       // finite masters that are not finite in 16 bits
  int32_t first_overflow;  // segment; -1: none
  int32_t pad;
};

}  // namespace mpt::cuda
