// The flat passes over a parameter store: one launch for all tensors, by a table of pieces. What changes from step to step is
// read from FlatControl in device memory, so that a recorded step can be replayed. Every sum is formed in the order in which
// the CPU forms it (src/backend/cpu/flat_passes.cpp), every update by the rules that it uses: the bits are the same.
#pragma once

#include "kernels/element.h"
#include "kernels/launch.h"
#include "kernels/numerics/optimizers.h"

namespace mpt::cuda {

// backend/flat_store.h's Segment in device memory.
struct FlatSegment {
  int64_t count;
  float* master;   // null: the 16-bit copy is the weight
  uint16_t* copy;  // null for FP32 parameters
  void* gradient;
  float* moment1;  // null where the optimizer has none
  float* moment2;  // NovoGrad: one number
  float* average;  // null: none
  int64_t first_piece;
  Element copy_type, gradient_type;
  float learning_rate_factor, weight_decay;
  int32_t active;  // has a gradient in this step and is not frozen
  int32_t pad;
};

struct FlatPiece {
  int32_t segment;
  int32_t count;
  int64_t begin;  // within the segment
};
constexpr int64_t flat_piece = 16384;  // elements, at most

// What a piece's gradients hold that is not finite.
struct FlatFound {
  int64_t count, first;  // the position of the first within the segment; -1: none
};

// Tables and room in device memory; their addresses stay, their contents may change between steps.
struct FlatTables {
  const FlatSegment* segments;
  const FlatPiece* pieces;
  RuleConstants* rules;   // [segments]
  float* factors;         // [segments]: trust ratios and the like
  double *sums1, *sums2;  // [pieces]
  FlatFound* found;       // [pieces]
  int32_t n_segments, n_pieces;
};

struct FlatControl {
  // ---- of the check
  double inverse_scale, clip_value;
  // ---- found by it
  double sum_of_squares;  // of the unscaled (and by value clipped) gradients
  int64_t non_finite;     // elements
  int64_t first_element;  // within that segment; -1: none
  int32_t first_segment;  // -1: none
  // ---- of the update
  int32_t apply;  // 0: the update's kernels return at once
  double learning_rate;
  uint64_t step;  // applied updates, this one included
  float clip_factor, average_decay;
  // ---- found by it
  int64_t overflows;       // finite masters that are not finite in 16 bits
  int32_t first_overflow;  // segment; -1: none
  int32_t pad;
};

// Sums of squares and non-finite elements of all pieces, then their total into the control.
void flat_check(const FlatTables& tables, FlatControl* control, Stream stream);

// Each segment's constants of this step's update; what the control found is reset, if it is given, and so are the counts.
void flat_rules(const FlatTables& tables, const OptimizerHyper& hyper, const FlatControl* control, FlatControl* found,
                mpt_update_statistics* counts, Stream stream);
// Sums of squares of the gradients as the update takes them, for each piece.
void flat_gradient_squares(const FlatTables& tables, const FlatControl* control, Stream stream);
// LAMB's trust ratios and NovoGrad's factors, by the norms of whole tensors. dry: no moment is moved.
void flat_factors(const FlatTables& tables, const OptimizerHyper& hyper, const FlatControl* control, bool dry,
                  Stream stream);
// After the two above.
void flat_update(const FlatTables& tables, const OptimizerHyper& hyper, FlatControl* control, Stream stream);
// After the first two above, dry. Adds to `out`.
void flat_statistics(const FlatTables& tables, const OptimizerHyper& hyper, const FlatControl* control,
                     mpt_update_statistics* out, Stream stream);

// Before the first update: averages become the weights.
void flat_seed_averages(const FlatTables& tables, const FlatControl* control, Stream stream);
void flat_round_copies(const FlatTables& tables, Stream stream);
void flat_accumulate(const FlatTables& tables, float* const* sums, float factor, bool first, Stream stream);

}  // namespace mpt::cuda
