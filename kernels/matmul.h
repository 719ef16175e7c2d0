// Matrix multiply for what the library doesn't take: any mixture of storage types, any broadcast of batches.
#pragma once

#include "kernels/divisor.h"
#include "kernels/element.h"
#include "kernels/launch.h"

namespace mpt::cuda {

constexpr int matmul_max_axes = 8;

// Item i of D = A B, all row-major: A is m x k, B is k x n, by strides in elements; D is dense, and rounded once.
struct MatmulArgs {
  const void* a;
  const void* b;
  void* d;
  Element type_a, type_b, type_d;
  int64_t m, n, k;
  int64_t row_a, column_a, row_b, column_b;
  int64_t first_item, items;  // D's first one is first_item
  int32_t axes;               // of the batch, outermost first
  Divisor size[matmul_max_axes];
  int64_t stride_a[matmul_max_axes], stride_b[matmul_max_axes];
};

// Sums are FP32, in an order that depends on the shape alone.
void matmul(const MatmulArgs& args, Stream stream);

}  // namespace mpt::cuda
