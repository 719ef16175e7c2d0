#include "backend/cpu/isa/norm_kernels.h"

#include "backend/cpu/isa/row_blocks.h"

namespace mpt::cpu::MPT_ISA {
namespace {

// The row in FP32: x, or round(x + residual), which is stored too.
MPT_HD const float* read_row(const NormShape& shape, const NormTensors& t, int64_t start, float* row) {
  if (t.residual == nullptr) return read_block(t.x_type, t.x, start, shape.n, row);
  for_blocks(shape.n, [&](int64_t begin, int64_t count) {
    float x_buffer[row_block], residual_buffer[row_block];
    const float* x = read_block(t.x_type, t.x, start + begin, count, x_buffer);
    const float* residual = read_block(t.residual_type, t.residual, start + begin, count, residual_buffer);
    float* sum = row + begin;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) sum[i] = x[i] + residual[i];
  });
  // Only now: x and the residual may be this memory.
  narrow(t.sum_type, row, shape.n, t.sum, start);
  if (t.sum_type != Element::f32) widen(t.sum_type, t.sum, start, shape.n, row);
  return row;
}

template <bool Weight, bool Bias>
MPT_HD void scale_block(const float* x, int64_t n, float mean, float rstd, const float* weight, const float* bias,
                        float* out) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    float y = (x[i] - mean) * rstd;
    if (Weight) y = Bias ? multiply_add(y, weight[i], bias[i]) : y * weight[i];
    if (!Weight && Bias) y += bias[i];
    out[i] = y;
  }
}

void rows(const NormShape& shape, const NormTensors& t, int64_t first, int64_t last, float* buffer) {
  const int64_t n = shape.n;
  const float count = static_cast<float>(n);
  for (int64_t row = first; row < last; ++row) {
    const int64_t start = row * n;
    const float* x = read_row(shape, t, start, buffer);
    const float mean = shape.rms ? 0.0f : sum_of(n, [&](int64_t i) { return x[i]; }) / count;
    const float variance = sum_of(n, [&](int64_t i) { return (x[i] - mean) * (x[i] - mean); }) / count;
    const float rstd = 1 / square_root(variance + shape.epsilon);
    if (t.mean != nullptr) t.mean[row] = mean;
    if (t.rstd != nullptr) t.rstd[row] = rstd;
    for_blocks(n, [&](int64_t begin, int64_t size) {
      float result[row_block];
      float* out = write_block(t.y_type, t.y, start + begin, result);
      const float* in = x + begin;
      if (t.weight != nullptr && t.bias != nullptr) {
        scale_block<true, true>(in, size, mean, rstd, t.weight + begin, t.bias + begin, out);
      } else if (t.weight != nullptr) {
        scale_block<true, false>(in, size, mean, rstd, t.weight + begin, nullptr, out);
      } else if (t.bias != nullptr) {
        scale_block<false, true>(in, size, mean, rstd, nullptr, t.bias + begin, out);
      } else {
        scale_block<false, false>(in, size, mean, rstd, nullptr, nullptr, out);
      }
      finish_block(t.y_type, out, size, t.y, start + begin);
    });
  }
}

// dx = rstd (g - mean(g) - xhat mean(g xhat)) with g = dy weight and xhat = (x - mean) rstd; RMS norm lacks mean(g).
void rows_grad(const NormShape& shape, const NormGradTensors& t, int64_t first, int64_t last, float* dweight,
               float* dbias, float* buffers) {
  const int64_t n = shape.n;
  const float count = static_cast<float>(n);
  float *xhat = buffers, *g = buffers + n;
  const std::size_t bytes = static_cast<std::size_t>(n) * sizeof(float);
  if (dweight != nullptr) std::memset(dweight, 0, bytes);
  if (dbias != nullptr) std::memset(dbias, 0, bytes);
  for (int64_t row = first; row < last; ++row) {
    const int64_t start = row * n;
    const float mean = shape.rms ? 0.0f : t.mean[row], rstd = t.rstd[row];
    float sum_g = 0, sum_gx = 0;
    for_blocks(n, [&](int64_t begin, int64_t size) {
      float x_buffer[row_block], dy_buffer[row_block];
      const float* x = read_block(t.x_type, t.x, start + begin, size, x_buffer);
      const float* dy = read_block(t.dy_type, t.dy, start + begin, size, dy_buffer);
      float *xhat_out = xhat + begin, *g_out = g + begin;
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) xhat_out[i] = (x[i] - mean) * rstd;
      if (dweight != nullptr) {
        float* sums = dweight + begin;
#pragma omp simd
        for (int64_t i = 0; i < size; ++i) sums[i] = multiply_add(dy[i], xhat_out[i], sums[i]);
      }
      if (dbias != nullptr) {
        float* sums = dbias + begin;
#pragma omp simd
        for (int64_t i = 0; i < size; ++i) sums[i] += dy[i];
      }
      if (t.dx == nullptr) return;
      if (t.weight != nullptr) {
        const float* weight = t.weight + begin;
#pragma omp simd
        for (int64_t i = 0; i < size; ++i) g_out[i] = dy[i] * weight[i];
      } else {
        std::memcpy(g_out, dy, static_cast<std::size_t>(size) * sizeof(float));
      }
      if (!shape.rms) sum_g += sum_of(size, [&](int64_t i) { return g_out[i]; });
      sum_gx += sum_of(size, [&](int64_t i) { return g_out[i] * xhat_out[i]; });
    });
    if (t.dx == nullptr) continue;
    const float mean_g = sum_g / count, mean_gx = sum_gx / count;
    for_blocks(n, [&](int64_t begin, int64_t size) {
      float result[row_block], add_buffer[row_block];
      float* out = write_block(t.dx_type, t.dx, start + begin, result);
      const float *xhat_in = xhat + begin, *g_in = g + begin;
      if (t.add != nullptr) {
        const float* add = read_block(t.add_type, t.add, start + begin, size, add_buffer);
#pragma omp simd
        for (int64_t i = 0; i < size; ++i)
          out[i] = multiply_add(rstd, multiply_add(-xhat_in[i], mean_gx, g_in[i] - mean_g), add[i]);
      } else {
#pragma omp simd
        for (int64_t i = 0; i < size; ++i) out[i] = rstd * multiply_add(-xhat_in[i], mean_gx, g_in[i] - mean_g);
      }
      finish_block(t.dx_type, out, size, t.dx, start + begin);
    });
  }
}

void add_parts(const float* parts, int64_t count, int64_t stride, int64_t n, float* out) {
  std::memcpy(out, parts, static_cast<std::size_t>(n) * sizeof(float));
  for (int64_t part = 1; part < count; ++part) {
    const float* in = parts + part * stride;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] += in[i];
  }
}

}  // namespace

NormKernels norm_kernels() { return {rows, rows_grad, add_parts}; }

}  // namespace mpt::cpu::MPT_ISA
