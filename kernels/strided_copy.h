// Copies between two layouts of the same shape, and fills: runs that are contiguous on both sides, at positions of up to seven
// outer axes.
#pragma once

#include "kernels/divider.h"
#include "kernels/element.h"
#include "kernels/launch.h"

namespace mpt::cuda {

constexpr int most_copy_axes = 8;

struct CopyAxis {
  Divider size;
  int64_t from, to;  // strides, in units
};

struct StridedCopyArgs {
  const void* from;  // null: filled with `value`
  void* to;
  int32_t
      unit;  // bytes that are moved at once: 1, 2, 4, 8 or 16; pointers are multiples of it. Converting: 1 or 8 elements
  bool convert;
  Element from_type, to_type;  // converting
  Words4 value;                // repeated to 16 bytes
  uint32_t units;              // in all, < 2^31
  Divider run;                 // units that follow one another
  int32_t rank;
  CopyAxis axes[most_copy_axes];  // the innermost last
};

void strided_copy(const StridedCopyArgs& args, Stream stream);

}  // namespace mpt::cuda
