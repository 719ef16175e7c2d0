#include "backend/cpu/isa/attention_kernels.h"

#include "backend/cpu/isa/gemm_simd.h"
#include "backend/cpu/isa/row_blocks.h"

namespace mpt::cpu::MPT_ISA {
namespace {

template <int Width>
void softmax(float* scores, int64_t keys, float scale, float* maximum, float* sum, float* correction) {
  float top[Width], base[Width], total[Width];
  for (int i = 0; i < Width; ++i) top[i] = maximum[i];
  for (int64_t key = 0; key < keys; ++key) {
    float* row = scores + key * Width;
#pragma omp simd
    for (int i = 0; i < Width; ++i) {
      row[i] *= scale;
      top[i] = row[i] > top[i] ? row[i] : top[i];
    }
  }
#pragma omp simd
  for (int i = 0; i < Width; ++i) {
    base[i] = top[i] == -infinity ? 0.0f : top[i];  // exp(-inf - 0) = 0 where nothing is seen yet
    correction[i] = exp_f32(maximum[i] - base[i]);
    maximum[i] = top[i];
    total[i] = 0;
  }
  for (int64_t key = 0; key < keys; ++key) {
    float* row = scores + key * Width;
#pragma omp simd
    for (int i = 0; i < Width; ++i) {
      row[i] = exp_f32(row[i] - base[i]);
      total[i] += row[i];
    }
  }
#pragma omp simd
  for (int i = 0; i < Width; ++i) sum[i] = multiply_add(sum[i], correction[i], total[i]);
}

void softmax_any(float* scores, int64_t keys, int width, float scale, float* maximum, float* sum, float* correction) {
  if (width == lanes) {
    softmax<lanes>(scores, keys, scale, maximum, sum, correction);
  } else {
    softmax<2 * lanes>(scores, keys, scale, maximum, sum, correction);
  }
}

void finish(const float* maximum, const float* sum, int64_t rows, float* logsumexp, float* factor) {
#pragma omp simd
  for (int64_t i = 0; i < rows; ++i) {
    logsumexp[i] = sum[i] == 0 ? -infinity : maximum[i] + log_f32(sum[i]);
    factor[i] = sum[i] == 0 ? 0.0f : 1 / sum[i];
  }
}

void rescale(float* tile, int64_t rows, int width, const float* factor) {
  for (int64_t row = 0; row < rows; ++row) {
#pragma omp simd
    for (int i = 0; i < width; ++i) tile[row * width + i] *= factor[i];
  }
}

void probabilities(float* scores, int64_t queries, int width, float scale, const float* logsumexp) {
  for (int64_t query = 0; query < queries; ++query) {
    float* row = scores + query * width;
    // A row that saw no key has probability 0 everywhere.
    const float base = logsumexp[query] == -infinity ? infinity : logsumexp[query];
#pragma omp simd
    for (int i = 0; i < width; ++i) row[i] = exp_f32(multiply_add(row[i], scale, -base));
  }
}

void score_gradients(const float* p, float* dp, int64_t queries, int width, float scale, const float* delta) {
  for (int64_t query = 0; query < queries; ++query) {
    const float* p_row = p + query * width;
    float* dp_row = dp + query * width;
    const float d = delta[query];
#pragma omp simd
    for (int i = 0; i < width; ++i) dp_row[i] = scale * (p_row[i] * (dp_row[i] - d));
  }
}

void row_products(const void* a, Element a_type, int64_t lda, const void* b, Element b_type, int64_t ldb, int64_t rows,
                  int64_t n, float* sums) {
  for (int64_t row = 0; row < rows; ++row) {
    float total = 0;
    for (int64_t begin = 0; begin < n; begin += row_block) {
      const int64_t count = n - begin < row_block ? n - begin : row_block;
      float x[row_block], y[row_block];
      widen(a_type, a, row * lda + begin, count, x);
      widen(b_type, b, row * ldb + begin, count, y);
      total += sum_of(count, [&](int64_t i) { return x[i] * y[i]; });
    }
    sums[row] = total;
  }
}

void store_transposed(const float* tile, int64_t rows, int width, int64_t count, const float* factor, void* out,
                      Element type, int64_t ld, float* buffer) {
  const int64_t padded = (rows + lanes - 1) / lanes * lanes;
  for (int64_t row = 0; row < rows; row += lanes) {
    for (int column = 0; column < width; column += lanes) {
      Vec v[lanes];
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) v[i] = row + i < rows ? load(tile + (row + i) * width + column) : zero();
      if (factor != nullptr) {
        const Vec scale = load(factor + column);
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i) v[i] = v[i] * scale;
      }
      transpose(v);
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) store(buffer + (column + i) * padded + row, v[i]);
    }
  }
  for (int64_t column = 0; column < count; ++column) narrow(type, buffer + column * padded, rows, out, column * ld);
}

}  // namespace

AttentionKernels attention_kernels() {
  return {softmax_any, finish, rescale, probabilities, score_gradients, row_products, store_transposed};
}

}  // namespace mpt::cpu::MPT_ISA
