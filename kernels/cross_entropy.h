// Softmax cross-entropy over class indices, and its gradient.
#pragma once

#include "kernels/element.h"
#include "kernels/launch.h"

namespace mpt::cuda {

struct CrossEntropyArgs {
  const void* logits;
  const int32_t* labels;  // a label that is no class makes its row's loss and gradient NaN
  int64_t rows;
  int32_t classes, ignore_index;
  float smoothing;  // share of the uniform distribution in the target
  bool mean;        // over the rows that are not ignored
  Element logits_type, dlogits_type;
  // ---- forward
  float *loss, *logsumexp, *weight;
  void* scratch;  // cross_entropy_scratch(rows) bytes
  // ---- backward; dlogits may overwrite the logits
  const float *row_logsumexp, *row_weight, *dloss;
  void* dlogits;
};

uint64_t cross_entropy_scratch(int64_t rows);
void cross_entropy(const CrossEntropyArgs& args, Stream stream);
void cross_entropy_grad(const CrossEntropyArgs& args, Stream stream);

}  // namespace mpt::cuda
