// Scaled dot-product attention by tiles of queries and keys: the matrix of scores never exists.
#pragma once

#include "kernels/element.h"
#include "kernels/launch.h"

namespace mpt::cuda {

// Where the rows of one tensor lie: element d of head h, batch item b, time t at b * batch + t * time + h * head_size + d
// elements from `data`. Packed projections are strides.
template <typename Pointer>
struct HeadRows {
  Pointer data = nullptr;  // the first head's first element; null: no such tensor
  int64_t batch = 0, time = 0;
  Element type = Element::f32;
  int32_t vector = 0;  // all rows allow 16-byte accesses
};
using HeadsIn = HeadRows<const void*>;
using HeadsOut = HeadRows<void*>;

struct AttentionShape {
  int32_t batch = 0, heads = 0, kv_heads = 0;
  int32_t queries = 0, keys = 0, head_size = 0;
  float scale = 1;
  int32_t causal = 0;                     // query t sees keys up to t
  const int32_t* lengths = nullptr;       // [batch]: keys from here on are hidden; null: none are
  const uint8_t* mask = nullptr;          // rows of `keys`, 0 hides; null: nothing is hidden
  int64_t mask_batch = 0, mask_head = 0;  // its strides
};

// A query that sees no key gets zeros and a logsumexp of -infinity.
struct AttentionArgs {
  AttentionShape shape;
  HeadsIn q, k, v;
  HeadsOut out;
  float* logsumexp = nullptr;  // [batch, heads, queries]
};
void attention(const AttentionArgs& args, Stream stream);

// Gradients with data null are not computed; those of queries and those of keys have kernels of their own, so that every sum
// has one order.
struct AttentionGradArgs {
  AttentionShape shape;
  HeadsIn q, k, v, out, dout;
  const float* logsumexp = nullptr;
  float* delta = nullptr;  // [batch, heads, queries]: out . dout
  HeadsOut dq, dk, dv;
};
void attention_grad(const AttentionGradArgs& args, Stream stream);

}  // namespace mpt::cuda
