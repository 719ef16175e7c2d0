// Matrices whose rows are contiguous on one side and columns on the other, at positions of up to six outer axes: through tiles in
// shared memory, so that both sides are read and written along their lines.
#pragma once

#include "kernels/strided_copy.h"

namespace mpt::cuda {

struct TransposeArgs {
  const void* from;
  void* to;
  int64_t rows, columns;  // element (r, c) is from[r + c * from_stride] and to[c + r * to_stride]
  int64_t from_stride, to_stride;
  int32_t size;  // bytes of an element: 1, 2, 4 or 8
  bool pairs;    // 2 bytes: sizes and strides are even and pointers multiples of 4
  bool convert;
  Element from_type, to_type;  // converting
  uint32_t count;              // positions of the outer axes
  int32_t rank;
  CopyAxis axes[most_copy_axes];  // strides in elements, the innermost last
};

void transpose(const TransposeArgs& args, Stream stream);

}  // namespace mpt::cuda
