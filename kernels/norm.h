// Layer and RMS normalisation over the last axis, and their gradients. Missing tensors are null; statistics, weight and bias
// are FP32.
#pragma once

#include "kernels/element.h"
#include "kernels/launch.h"

namespace mpt::cuda {

// y and sum may lie over x or the residual.
struct NormArgs {
  const void *x, *residual;
  const float *weight, *bias;
  void *y, *sum;
  float *mean, *rstd;
  int64_t rows;
  int32_t n;
  float epsilon;
  bool rms;
  Element x_type, residual_type, y_type, sum_type;
};

void norm(const NormArgs& args, Stream stream);

// dx may lie over x, dy or add.
struct NormGradArgs {
  const void *x, *dy, *add;
  const float *weight, *mean, *rstd;
  void* dx;
  float *dweight, *dbias;
  float* parts;  // room for norm_grad_parts(rows, n) floats for each of dweight and dbias that is wanted
  int64_t rows;
  int32_t n;
  bool rms;
  Element x_type, dy_type, add_type, dx_type;
};

int64_t norm_grad_parts(int64_t rows, int32_t n);
void norm_grad(const NormGradArgs& args, Stream stream);

}  // namespace mpt::cuda
