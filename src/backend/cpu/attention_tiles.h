// What the forward and the backward pass of attention share: where each head's rows lie, which keys a query sees, and
// products of packed tiles.
#pragma once

#include <cstdint>

#include "backend/backend.h"
#include "backend/cpu/element.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/isa/attention_kernels.h"
#include "backend/cpu/isa/gemm_kernels.h"

namespace mpt::cpu {

// Rows of one tensor as stored: `row` elements from one position to the next, `batch` from one item to the next; head h
// begins `offset` + h * head size into a row.
struct HeadRows {
  DType type = DType::f32;
  int64_t batch = 0, row = 0, offset = 0;

  const void* at(const void* tensor, int64_t b, int64_t position, int64_t head_offset) const {
    return static_cast<const char*>(tensor) + (b * batch + position * row + offset + head_offset) * size_of(type);
  }
  void* at(void* tensor, int64_t b, int64_t position, int64_t head_offset) const {
    return static_cast<char*>(tensor) + (b * batch + position * row + offset + head_offset) * size_of(type);
  }
};

struct AttentionProblem {
  AttentionProblem(const Graph& graph, const Node& node, bool gradient);

  int64_t batch = 0, queries = 0, keys = 0;
  int64_t heads = 0, kv_heads = 0, head_size = 0;
  bool causal = false, packed = false, has_mask = false, has_lengths = false;
  float scale = 1;
  HeadRows q, k, v;  // inputs; of one tensor when packed
  HeadRows out;
  HeadRows dout, dq, dk, dv;              // of the gradient only
  int64_t mask_batch = 0, mask_head = 0;  // strides of the mask; its rows are `keys` long

  // Keys of item b from here on are seen by no query before `query_end`.
  int64_t key_end(const int32_t* lengths, int64_t b, int64_t query_end) const;
  const uint8_t* mask_row(const uint8_t* mask, int64_t b, int64_t h, int64_t query) const {
    return mask + b * mask_batch + h * mask_head + query * keys;
  }
  // What stands for the score of a hidden key: -inf once it is scaled.
  float hidden() const;
};

// The inputs that both passes have, as run() gets them.
struct AttentionTensors {
  AttentionTensors(const KernelArgs& args, const AttentionProblem& problem);

  const void *q, *k, *v;
  const uint8_t* mask;     // or null
  const int32_t* lengths;  // or null
};

// A buffer within a kernel's scratch: takes its place while sizes are added up, and is found again from the base.
class ScratchLayout {
 public:
  int64_t add(int64_t floats) {
    const int64_t at = size_;
    size_ += (floats + 15) / 16 * 16;
    return at;
  }
  int64_t size() const { return size_; }

 private:
  int64_t size_ = 0;
};

// A product of packed tiles: A in panels of kernel.rows rows, B one panel.
struct TileProduct {
  GemmKernel kernel;

  int64_t steps(int64_t k) const { return (k + kernel.k_unit - 1) / kernel.k_unit; }
  int64_t a_floats(int64_t m, int64_t k) const {
    return (m + kernel.rows - 1) / kernel.rows * kernel.row_lanes * steps(k);
  }
  int64_t b_floats(int64_t k) const { return kernel.columns * steps(k); }
  // c[m][n] (+)= A B over steps [first, last) of the `packed` ones that A's panels hold; B's steps begin at b.
  void multiply(int64_t m, int64_t n, const float* a, int64_t packed, int64_t first, int64_t last, const float* b,
                float* c, int64_t ldc, bool add) const;
};

// The product op(A) op(B) at the given level, by native BF16 multiplication where both are BF16 and the level has it.
TileProduct tile_product(Isa level, DType a, bool transposed_a, DType b, bool transposed_b);

AttentionKernels attention_kernels(Isa level);

}  // namespace mpt::cpu
