// Scaled dot-product attention, forward and backward, as cuDNN's graph API has it. Convolution, batch norm and pooling come
// here with their ops.
#pragma once

#include <cstdint>
#include <memory>

#include "core/dtype.h"
#include "kernels/launch.h"

namespace mpt::cuda {

// out = softmax(scale q k^T, masked) v for each batch and head; heads / kv_heads query heads share a key head. Tensors are
// 4-dimensional [batch, heads, time, head_size] with strides in elements in that order; the last stride is 1, so packed and
// interleaved layouts are strides. FP16 or BF16 storage, FP32 softmax and sums.
struct AttentionProblem {
  struct Layout {
    int64_t batch = 0, head = 0, time = 0;  // strides; that of head_size is 1
  };
  DType type = DType::f16;
  int64_t batch = 0, heads = 0, kv_heads = 0, q_time = 0, kv_time = 0, head_size = 0;
  double scale = 1;
  bool causal = false;  // query t sees keys up to t (aligned at the top left)
  bool lengths =
      false;  // of keys: int32 [batch], 1 .. kv_time; keys beyond have no weight, their gradients are undefined
  Layout q, k, v, out;
  Layout dq, dk, dv, dout;  // backward only
};

struct AttentionOperands {
  const void *q = nullptr, *k = nullptr, *v = nullptr;
  void* out = nullptr;                     // written forward, read backward
  float* logsumexp = nullptr;              // [batch, heads, q_time], natural logarithm of scale q k^T's sums
  const int32_t* lengths = nullptr;        // of keys
  const int32_t* query_lengths = nullptr;  // with lengths only: [batch], all q_time
  const void* dout = nullptr;
  void *dq = nullptr, *dk = nullptr, *dv = nullptr;
  void* workspace = nullptr;  // aligned to 256 bytes
};

class Dnn {
 public:
  class Plan {
   public:
    virtual ~Plan() = default;
    virtual uint64_t workspace_bytes() const = 0;
    virtual void run(Stream stream, const AttentionOperands& operands) const = 0;
  };

  virtual ~Dnn() = default;
  // Null where the library doesn't take it. Deterministic.
  virtual std::unique_ptr<Plan> attention(const AttentionProblem& problem) = 0;
  virtual std::unique_ptr<Plan> attention_grad(const AttentionProblem& problem) = 0;
};

}  // namespace mpt::cuda
