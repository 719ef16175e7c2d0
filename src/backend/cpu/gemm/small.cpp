// Products that packing would cost more than it gains: small batch items, computed as wholes, and dot products of few rows
// or columns with a long operand.
#include <algorithm>

#include "backend/cpu/gemm/parts.h"

namespace mpt::cpu {

void GemmPlan::prepare_items(int threads) {
  const GemmProblem& p = problem_;
  const int64_t lanes = kernel_.columns / 2;
  // Transposed A beside packed B would need lanes of FP32 there.
  a_in_place_ = kernel_.k_unit == 1 ? p.a == DType::f32 && (!p.trans_a || p.b == DType::f32)
                                    : kernel_.multiply_rows != nullptr && p.k % kernel_.k_unit == 0;
  b_in_place_ = !p.trans_b && kernel_.k_unit == 1 && p.m <= 2 * kernel_.rows && (p.b == DType::f32 || !a_in_place_);
  // The rows of sums touch each other where whole lanes leave those of an earlier row alone, or are overwritten in turn.
  row_length_ = p.n <= lanes || p.n % lanes == 0 ? p.n : packed_columns(p.n, kernel_);
  const std::size_t panel = a_in_place_ ? 0 : lanes_bytes(steps(p.k) * kernel_.row_lanes);
  const std::size_t own_b = b_in_place_ ? 0 : lanes_bytes(steps(p.k) * packed_columns(p.n, kernel_));
  own_b_offset_ = panel;
  sums_offset_ = panel + own_b;
  worker_bytes_ = sums_offset_ + lanes_bytes(kernel_.rows * row_length_ + kernel_.columns);
  scratch_bytes_ = worker_bytes_ * static_cast<std::size_t>(threads);
  constexpr int64_t products_per_task = 200'000;
  group_ = std::clamp<int64_t>(products_per_task / (p.m * p.n * p.k + 1), 1, divide_up(p.batch, 16));
}

void GemmPlan::multiply_item(const Operands& operands, int64_t item, int worker) const {
  const GemmProblem& p = problem_;
  std::byte* own = operands.scratch + static_cast<std::size_t>(worker) * worker_bytes_;
  auto* sums = reinterpret_cast<float*>(own + sums_offset_);
  const std::byte *a = a_item(operands.a, item), *b = b_item(operands.b, item);
  const int64_t size_a = static_cast<int64_t>(size_of(p.a));
  const int64_t k_steps = steps(p.k);
  if (!b_in_place_) kernel_.pack_b(b, p.ldb, p.n, p.k, own + own_b_offset_);
  const auto* packed_b = reinterpret_cast<const float*>(own + own_b_offset_);
  const GemmMultiplyStrided multiply = a_in_place_ && !p.trans_a ? kernel_.multiply_rows : kernel_.multiply_across;
  const int64_t a_stride = !a_in_place_ ? kernel_.row_lanes * static_cast<int64_t>(sizeof(float)) : p.lda * size_a;
  for (int64_t row = 0; row < p.m; row += panel_rows_) {
    const int64_t rows = std::min<int64_t>(panel_rows_, p.m - row);
    const void* left = own;
    if (a_in_place_) {
      left = a + row * (p.trans_a ? size_a : p.lda * size_a);
    } else {
      kernel_.pack_a(a + row * (p.trans_a ? 1 : p.lda) * size_a, p.lda, rows, p.k, own);
    }
    if (b_in_place_) {
      multiply(rows, p.n, k_steps, left, a_stride, b, p.ldb, sums, row_length_, false);
    } else if (a_in_place_) {
      for (int64_t j = 0; j < p.n; j += kernel_.columns) {
        const int64_t width = packed_columns(std::min<int64_t>(kernel_.columns, p.n - j), kernel_);
        multiply(rows, width, k_steps, left, a_stride, packed_b + j * k_steps, width, sums + j, row_length_, false);
      }
    } else {
      kernel_.multiply(rows, p.n, k_steps, left, packed_b, sums, row_length_, false);
    }
    finish_rows(*operands.epilogue, item, row, rows, sums);
  }
}

void GemmPlan::prepare_dots(int threads) {
  const GemmProblem& p = problem_;
  const bool long_a = p.m > p.n;
  const int64_t longs = std::max(p.m, p.n), few = std::min(p.m, p.n);
  // Tasks enough for many threads, but none too small.
  constexpr int64_t tasks_wanted = 32, products_per_task = 100'000;
  group_ = std::max(divide_up(longs * p.batch, tasks_wanted), products_per_task / (few * p.k));
  group_ = std::min<int64_t>({divide_up(group_, 4) * 4, longs, 512});
  row_length_ = long_a ? p.n : group_;
  worker_bytes_ = lanes_bytes(few * group_);
  scratch_bytes_ = worker_bytes_ * static_cast<std::size_t>(threads);
}

void GemmPlan::multiply_dots(const Operands& operands, int64_t task, int worker) const {
  const GemmProblem& p = problem_;
  const bool long_a = p.m > p.n;
  const int64_t longs = std::max(p.m, p.n), few = std::min(p.m, p.n), tiles = divide_up(longs, group_);
  const int64_t item = task / tiles, first = task % tiles * group_, count = std::min(group_, longs - first);
  auto* sums = reinterpret_cast<float*>(operands.scratch + static_cast<std::size_t>(worker) * worker_bytes_);
  const std::byte *a = a_item(operands.a, item), *b = b_item(operands.b, item);
  // Of many few rows only a chunk stays in the first-level cache.
  const int64_t chunk = few <= 2 ? 4096 : 512;
  for (int64_t k = 0; k < p.k; k += chunk) {
    const int64_t length = std::min(chunk, p.k - k);
    if (long_a) {
      dot_(count, few, length, at(a, first * p.lda + k, p.a), p.lda, at(b, k, p.b), p.ldb, sums, row_length_, 1, k > 0);
    } else {
      dot_(count, few, length, at(b, first * p.ldb + k, p.b), p.ldb, at(a, k, p.a), p.lda, sums, 1, row_length_, k > 0);
    }
  }
  if (long_a) {
    finish_rows(*operands.epilogue, item, first, count, sums);
  } else {
    for (int64_t i = 0; i < p.m; ++i) {
      int64_t batch = item, row = i;
      locate(&batch, &row);
      operands.epilogue->finish(operands.epilogue->self, batch, row, first, count, sums + i * row_length_);
    }
  }
}

// Whole rows whose sums are row_length_ apart.
void GemmPlan::finish_rows(const Epilogue& epilogue, int64_t batch, int64_t row, int64_t rows, float* sums) const {
  const int64_t n = problem_.n;
  while (rows > 0) {
    int64_t item = batch, item_row = row, count = 1;
    locate(&item, &item_row);
    if (row_length_ == n && epilogue.finish_rows != nullptr) {
      count = folded_m_ == 0 ? rows : std::min(rows, folded_m_ - item_row);
      epilogue.finish_rows(epilogue.self, item, item_row, count, n, sums);
    } else {
      epilogue.finish(epilogue.self, item, item_row, 0, n, sums);
    }
    row += count, rows -= count, sums += count * row_length_;
  }
}

}  // namespace mpt::cpu
