// Rows and columns of softmax at one instruction-set level. Plain C types only.
#pragma once

#include <cstdint>

#include "backend/cpu/isa/element.h"
#include "backend/cpu/isa/levels.h"

namespace mpt::cpu {

// Tensors seen as [outer, n, inner]; softmax runs along n.
struct SoftmaxTask {
  int64_t n, inner;
  bool log;
  Element x_type, dy_type, out_type;  // of x (forward) or y (gradient); of dy; of the result
};

struct SoftmaxKernels {
  // inner == 1: rows [first, last). A row may be overwritten by its result.
  void (*rows)(const SoftmaxTask& task, const void* x, void* y, int64_t first, int64_t last);
  void (*rows_grad)(const SoftmaxTask& task, const void* y, const void* dy, void* dx, int64_t first, int64_t last);
  // Columns [column, column + count) of outer item `outer`, count <= softmax_columns.
  void (*columns)(const SoftmaxTask& task, const void* x, void* y, int64_t outer, int64_t column, int64_t count);
  void (*columns_grad)(const SoftmaxTask& task, const void* y, const void* dy, void* dx, int64_t outer, int64_t column,
                       int64_t count);
};

constexpr int64_t softmax_columns = 64;

}  // namespace mpt::cpu

MPT_AT_EACH_LEVEL(SoftmaxKernels softmax_kernels();)
