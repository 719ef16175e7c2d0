// What surrounds a library's attention where keys have lengths: it gets lengths that it surely takes, and what it leaves open
// (items without any key, gradients of hidden keys) is written here.
#pragma once

#include "kernels/attention.h"

namespace mpt::cuda {

// key_lengths[b] = lengths[b] within 1 .. keys; query_lengths[b] = queries.
struct AttentionLengthsArgs {
  const int32_t* lengths = nullptr;
  int32_t* query_lengths = nullptr;
  int32_t* key_lengths = nullptr;
  int32_t batch = 0, queries = 0, keys = 0;
};
void attention_lengths(const AttentionLengthsArgs& args, Stream stream);

// Items without any key get zeros in `queries` (outputs or gradients) and -infinity in logsumexp; gradients of keys beyond an
// item's length get zeros. Tensors with data null are left alone, and so is a null logsumexp.
struct AttentionPaddingArgs {
  AttentionShape shape;
  HeadsOut queries, dk, dv;
  float* logsumexp = nullptr;
};
void attention_padding(const AttentionPaddingArgs& args, Stream stream);

}  // namespace mpt::cuda
