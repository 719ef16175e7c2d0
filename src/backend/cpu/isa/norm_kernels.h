// Rows of layer and RMS normalisation at one instruction-set level. Plain C types only.
#pragma once

#include <cstdint>

#include "backend/cpu/isa/element.h"
#include "backend/cpu/isa/levels.h"

namespace mpt::cpu {

struct NormShape {
  int64_t n;  // elements of a row
  float epsilon;
  bool rms;
};

// Missing tensors are null. Statistics, weight and bias are FP32.
struct NormTensors {
  const void *x, *residual;
  const float *weight, *bias;
  void *y, *sum;
  float *mean, *rstd;
  Element x_type, residual_type, y_type, sum_type;
};

struct NormGradTensors {
  const void *x, *dy, *add;
  const float *weight, *mean, *rstd;
  void* dx;
  Element x_type, dy_type, add_type, dx_type;
};

struct NormKernels {
  // Rows [first, last); `row` has room for n floats. y and sum may lie over x or the residual.
  void (*rows)(const NormShape& shape, const NormTensors& tensors, int64_t first, int64_t last, float* row);
  // Rows [first, last). Where not null, dweight and dbias (n floats each) are set to the sums over these rows. `rows` has room
  // for 2 n floats. dx may lie over x, dy or add.
  void (*rows_grad)(const NormShape& shape, const NormGradTensors& tensors, int64_t first, int64_t last, float* dweight,
                    float* dbias, float* rows);
  // out[i] = the sum over parts, in their order, of parts[part * stride + i].
  void (*add_parts)(const float* parts, int64_t count, int64_t stride, int64_t n, float* out);
};

}  // namespace mpt::cpu

MPT_AT_EACH_LEVEL(NormKernels norm_kernels();)
