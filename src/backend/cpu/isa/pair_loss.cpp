#include "backend/cpu/isa/pair_loss_kernels.h"

#include "backend/cpu/isa/row_blocks.h"
#include "kernels/numerics/pair_loss.h"

namespace mpt::cpu::MPT_ISA {
namespace {

template <typename Loss>
double sum_all(const PairLossTask& task, const void* x, const void* target, int64_t first, int64_t n) {
  float x_buffer[row_block], target_buffer[row_block];
  double sum = 0;
  for_blocks(n, [&](int64_t begin, int64_t count) {
    const float* a = read_block(task.x_type, x, first + begin, count, x_buffer);
    const float* t = read_block(task.target_type, target, first + begin, count, target_buffer);
    sum += sum_of(count, [&](int64_t i) { return Loss::value(a[i], t[i]); });
  });
  return sum;
}

template <typename Loss>
void grad_all(const PairLossTask& task, const void* x, const void* target, float factor, int64_t first, int64_t n,
              void* dx, void* dtarget) {
  float x_buffer[row_block], target_buffer[row_block], result[row_block];
  for_blocks(n, [&](int64_t begin, int64_t count) {
    const float* a = read_block(task.x_type, x, first + begin, count, x_buffer);
    const float* t = read_block(task.target_type, target, first + begin, count, target_buffer);
    if (dx != nullptr) {
      float* out = write_block(task.dx_type, dx, first + begin, result);
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) out[i] = factor * Loss::by_x(a[i], t[i]);
      finish_block(task.dx_type, out, count, dx, first + begin);
    }
    if (dtarget != nullptr) {
      float* out = write_block(task.dtarget_type, dtarget, first + begin, result);
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) out[i] = factor * Loss::by_target(a[i], t[i]);
      finish_block(task.dtarget_type, out, count, dtarget, first + begin);
    }
  });
}

double sum(const PairLossTask& task, const void* x, const void* target, int64_t first, int64_t n) {
  switch (task.kind) {
    case PairLossKind::mse:
      return sum_all<SquaredError>(task, x, target, first, n);
    case PairLossKind::l1:
      return sum_all<AbsoluteError>(task, x, target, first, n);
    case PairLossKind::bce:
      break;
  }
  return sum_all<BinaryCrossEntropy>(task, x, target, first, n);
}

void grad(const PairLossTask& task, const void* x, const void* target, float factor, int64_t first, int64_t n, void* dx,
          void* dtarget) {
  switch (task.kind) {
    case PairLossKind::mse:
      return grad_all<SquaredError>(task, x, target, factor, first, n, dx, dtarget);
    case PairLossKind::l1:
      return grad_all<AbsoluteError>(task, x, target, factor, first, n, dx, dtarget);
    case PairLossKind::bce:
      break;
  }
  grad_all<BinaryCrossEntropy>(task, x, target, factor, first, n, dx, dtarget);
}

}  // namespace

PairLossKernels pair_loss_kernels() { return {sum, grad}; }

}  // namespace mpt::cpu::MPT_ISA
