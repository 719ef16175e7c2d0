// Rows picked by index: x is [outer, count, row], y [outer, picks, row].
#pragma once

#include "kernels/divider.h"
#include "kernels/element.h"
#include "kernels/launch.h"

namespace mpt::cuda {

struct GatherArgs {
  const void* x;
  const int32_t* indices;  // those outside [0, count) pick zeros
  void* y;
  int64_t outer, count, picks;
  int64_t row;  // units, < 2^31
  int32_t
      unit;  // bytes that are moved at once: 1, 2, 4, 8 or 16; pointers are multiples of it. Converting: 1 or 8 elements
  bool convert;
  Element x_type, y_type;  // converting
};

void gather(const GatherArgs& args, Stream stream);

}  // namespace mpt::cuda
