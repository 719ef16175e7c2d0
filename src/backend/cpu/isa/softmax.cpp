#include "backend/cpu/isa/softmax_kernels.h"

#include "backend/cpu/isa/row_blocks.h"

namespace mpt::cpu::MPT_ISA {
namespace {

// A row of up to this many elements is kept in FP32 between the passes; of a longer one exp is formed twice.
constexpr int64_t whole_row = 4096;

void short_row(const SoftmaxTask& task, const void* x, void* y, int64_t first) {
  const int64_t n = task.n;
  float buffer[whole_row], result[whole_row];
  const float* in = read_block(task.x_type, x, first, n, buffer);
  float* out = write_block(task.out_type, y, first, result);
  const float top = max_of(in, n, -infinity);
  if (task.log) {
    const float sum = sum_of(n, [&](int64_t i) { return exp_f32(in[i] - top); });
    const float log_sum = log_f32(sum);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = (in[i] - top) - log_sum;
  } else {
    const float sum = sum_of(n, [&](int64_t i) { return out[i] = exp_f32(in[i] - top); });
    const float factor = 1 / sum;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] *= factor;
  }
  finish_block(task.out_type, out, n, y, first);
}

void long_row(const SoftmaxTask& task, const void* x, void* y, int64_t first) {
  float buffer[row_block], result[row_block];
  float top = -infinity, sum = 0;
  for_blocks(task.n, [&](int64_t begin, int64_t count) {
    top = max_of(read_block(task.x_type, x, first + begin, count, buffer), count, top);
  });
  for_blocks(task.n, [&](int64_t begin, int64_t count) {
    const float* in = read_block(task.x_type, x, first + begin, count, buffer);
    sum += sum_of(count, [&](int64_t i) { return exp_f32(in[i] - top); });
  });
  const float factor = 1 / sum, log_sum = log_f32(sum);
  for_blocks(task.n, [&](int64_t begin, int64_t count) {
    const float* in = read_block(task.x_type, x, first + begin, count, buffer);
    float* out = write_block(task.out_type, y, first + begin, result);
    if (task.log) {
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) out[i] = (in[i] - top) - log_sum;
    } else {
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) out[i] = exp_f32(in[i] - top) * factor;
    }
    finish_block(task.out_type, out, count, y, first + begin);
  });
}

void rows(const SoftmaxTask& task, const void* x, void* y, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; ++row) {
    if (task.n <= whole_row) {
      short_row(task, x, y, row * task.n);
    } else {
      long_row(task, x, y, row * task.n);
    }
  }
}

// dx = y (dy - sum(y dy)); of log-softmax dy - exp(y) sum(dy).
void rows_grad(const SoftmaxTask& task, const void* y, const void* dy, void* dx, int64_t first, int64_t last) {
  float y_buffer[row_block], dy_buffer[row_block], result[row_block];
  for (int64_t row = first; row < last; ++row) {
    const int64_t start = row * task.n;
    float sum = 0;
    for_blocks(task.n, [&](int64_t begin, int64_t count) {
      const float* dy_in = read_block(task.dy_type, dy, start + begin, count, dy_buffer);
      if (task.log) {
        sum += sum_of(count, [&](int64_t i) { return dy_in[i]; });
      } else {
        const float* y_in = read_block(task.x_type, y, start + begin, count, y_buffer);
        sum += sum_of(count, [&](int64_t i) { return y_in[i] * dy_in[i]; });
      }
    });
    for_blocks(task.n, [&](int64_t begin, int64_t count) {
      const float* y_in = read_block(task.x_type, y, start + begin, count, y_buffer);
      const float* dy_in = read_block(task.dy_type, dy, start + begin, count, dy_buffer);
      float* out = write_block(task.out_type, dx, start + begin, result);
      if (task.log) {
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) out[i] = multiply_add(-exp_f32(y_in[i]), sum, dy_in[i]);
      } else {
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) out[i] = y_in[i] * (dy_in[i] - sum);
      }
      finish_block(task.out_type, out, count, dx, start + begin);
    });
  }
}

// Along another axis than the last one a column is a lane.
void columns(const SoftmaxTask& task, const void* x, void* y, int64_t outer, int64_t column, int64_t count) {
  float buffer[softmax_columns], result[softmax_columns], top[softmax_columns], sum[softmax_columns];
  const int64_t start = outer * task.n * task.inner + column;
  for (int64_t i = 0; i < count; ++i) {
    top[i] = -infinity;
    sum[i] = 0;
  }
  for (int64_t row = 0; row < task.n; ++row) {
    const float* in = read_block(task.x_type, x, start + row * task.inner, count, buffer);
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) top[i] = in[i] > top[i] ? in[i] : top[i];
  }
  for (int64_t row = 0; row < task.n; ++row) {
    const float* in = read_block(task.x_type, x, start + row * task.inner, count, buffer);
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) sum[i] += exp_f32(in[i] - top[i]);
  }
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) sum[i] = task.log ? log_f32(sum[i]) : 1 / sum[i];
  for (int64_t row = 0; row < task.n; ++row) {
    const int64_t at = start + row * task.inner;
    const float* in = read_block(task.x_type, x, at, count, buffer);
    float* out = write_block(task.out_type, y, at, result);
    if (task.log) {
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) out[i] = (in[i] - top[i]) - sum[i];
    } else {
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) out[i] = exp_f32(in[i] - top[i]) * sum[i];
    }
    finish_block(task.out_type, out, count, y, at);
  }
}

void columns_grad(const SoftmaxTask& task, const void* y, const void* dy, void* dx, int64_t outer, int64_t column,
                  int64_t count) {
  float y_buffer[softmax_columns], dy_buffer[softmax_columns], result[softmax_columns], sum[softmax_columns] = {};
  const int64_t start = outer * task.n * task.inner + column;
  for (int64_t row = 0; row < task.n; ++row) {
    const int64_t at = start + row * task.inner;
    const float* y_in = read_block(task.x_type, y, at, count, y_buffer);
    const float* dy_in = read_block(task.dy_type, dy, at, count, dy_buffer);
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) sum[i] += task.log ? dy_in[i] : y_in[i] * dy_in[i];
  }
  for (int64_t row = 0; row < task.n; ++row) {
    const int64_t at = start + row * task.inner;
    const float* y_in = read_block(task.x_type, y, at, count, y_buffer);
    const float* dy_in = read_block(task.dy_type, dy, at, count, dy_buffer);
    float* out = write_block(task.out_type, dx, at, result);
    if (task.log) {
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) out[i] = multiply_add(-exp_f32(y_in[i]), sum[i], dy_in[i]);
    } else {
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) out[i] = y_in[i] * (dy_in[i] - sum[i]);
    }
    finish_block(task.out_type, out, count, dx, at);
  }
}

}  // namespace

SoftmaxKernels softmax_kernels() { return {rows, rows_grad, columns, columns_grad}; }

}  // namespace mpt::cpu::MPT_ISA
