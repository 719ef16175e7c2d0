// Vector loops over one row of a tensor in storage, for kernels that move, add and reduce.
#pragma once

#include <cstdint>

#include "backend/cpu/isa/element.h"
#include "backend/cpu/isa/levels.h"

namespace mpt::cpu {

// How rows combine. max: NaN wins.
enum class Combine : int32_t { sum, max };

// A place in a tensor: its first element's address, its type and how many elements to skip.
struct RowIn {
  Element type;
  const void* data;
  int64_t first;
};
struct RowOut {
  Element type;
  void* data;
  int64_t first;
};

}  // namespace mpt::cpu

MPT_AT_EACH_LEVEL(
    // to[i] = from[i], rounded once.
    void convert_row(const RowIn& from, int64_t n, const RowOut& to);
    // sums[i] = from[i] where `begin`, else their combination; in FP32.
    void combine_row(Combine combine, const RowIn& from, int64_t n, bool begin, float* sums);
    // The combination of n > 0 elements, in an order that depends on n alone: 64 sums of 16 elements each, added as a
    // binary tree; such blocks again as a binary tree. The error of a sum grows with the logarithm of n.
    float reduce_row(Combine combine, const RowIn& from, int64_t n);
    // sums[c] = the combination of elements first + r * stride + c over r < rows, for c < columns; columns <= row_block.
    // In groups of 16 rows.
    void reduce_columns(Combine combine, const RowIn& from, int64_t stride, int64_t rows, int64_t columns,
                        float* sums);)

namespace mpt::cpu {

constexpr int64_t row_block = 512;

}  // namespace mpt::cpu
