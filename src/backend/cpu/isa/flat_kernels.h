// The vector loops of the flat passes over one piece of a tensor. Plain types only: every build of src/backend/cpu/isa/
// includes it.
#pragma once

#include <cstdint>

#include "backend/cpu/isa/element.h"
#include "backend/cpu/isa/levels.h"
#include "kernels/numerics/optimizers.h"

namespace mpt::cpu {

// A piece of one tensor, what is to be done with its gradients, and the constants of its rule.
struct FlatPiece {
  int64_t count = 0;
  float* master = nullptr;   // null: the 16-bit copy is the weight
  uint16_t* copy = nullptr;  // null: FP32 alone
  const void* gradient = nullptr;
  float* moment1 = nullptr;
  float* moment2 = nullptr;  // one number per element
  float* average = nullptr;
  Element copy_type = Element::f32;
  Element gradient_type = Element::f32;
  float inverse_scale = 1, clip_value = 0, clip_factor = 1;
  RuleConstants rule;
  int32_t kind = 0;
  bool nesterov = false;
  float factor = 1;  // LAMB: trust ratio; NovoGrad: of the gradient
  float average_decay = 0, average_rest = 1;
};

struct FlatSums {
  double first = 0, second = 0;
};

// Longest range that preview() takes.
constexpr int64_t flat_block = 512;

struct FlatKernels {
  // Sum of squares of the unscaled, clipped gradients; counts those that are not finite.
  double (*sum_of_squares)(const FlatPiece& piece, int64_t* non_finite);
  // Position of the first gradient that is not finite; count if there is none.
  int64_t (*first_non_finite)(const FlatPiece& piece);
  // The whole update of a piece. Returns how many weights became finite numbers beyond the 16-bit type.
  int64_t (*update)(const FlatPiece& piece);
  // LAMB's first pass: sums of squares of the weights and of the directions. Moves the moments, if so told.
  FlatSums (*lamb_norms)(const FlatPiece& piece, bool move_moments);
  // The gradients (unscaled, not clipped), the weights and the updates that update() would make, into arrays of FP32.
  void (*preview)(const FlatPiece& piece, float* gradients, float* weights, float* updates);
  // copy = round(master)
  void (*round_copy)(const FlatPiece& piece);
  // sums (+)= factor * gradient
  void (*accumulate)(const FlatPiece& piece, float factor, bool add, float* sums);
};

}  // namespace mpt::cpu

MPT_AT_EACH_LEVEL(const FlatKernels& flat_kernels();)
