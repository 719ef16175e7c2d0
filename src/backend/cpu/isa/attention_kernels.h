// The instruction-set dependent half of attention besides its matrix products: what happens to a tile of scores, and the
// conversions at its rim. Plain C types only: every build of src/backend/cpu/isa/ includes it.
#pragma once

#include <cstdint>

#include "backend/cpu/isa/element.h"
#include "backend/cpu/isa/levels.h"

namespace mpt::cpu {

struct AttentionKernels {
  // Forward tiles lie transposed, scores[key][query], `width` queries in a row (one or two vectors), so that the state of
  // the running softmax is a vector. maximum and sum are the state; scores become exp(scale * score - maximum), and
  // correction what sums so far are to be multiplied by. A hidden key's scaled score is -inf.
  void (*softmax)(float* scores, int64_t keys, int width, float scale, float* maximum, float* sum, float* correction);
  // logsumexp and 1 / sum of finished rows; -inf and 0 where no key was seen.
  void (*finish)(const float* maximum, const float* sum, int64_t rows, float* logsumexp, float* factor);
  // tile[row][column] *= factor[column]
  void (*rescale)(float* tile, int64_t rows, int width, const float* factor);

  // Backward tiles lie scores[query][key]. scores become exp(scale * score - logsumexp[query]).
  void (*probabilities)(float* scores, int64_t queries, int width, float scale, const float* logsumexp);
  // dp[query][key] becomes scale * p * (dp - delta[query]): the gradient of the scores before scaling.
  void (*score_gradients)(const float* p, float* dp, int64_t queries, int width, float scale, const float* delta);
  // sums[row] = the sum over n of a[row] * b[row].
  void (*row_products)(const void* a, Element a_type, int64_t lda, const void* b, Element b_type, int64_t ldb,
                       int64_t rows, int64_t n, float* sums);

  // out[column][row] = tile[row][column] * factor[column], rounded to out's type, for the first `count` columns; factor
  // may be null for 1. `buffer` has room for attention_buffer(rows, width) floats.
  void (*store_transposed)(const float* tile, int64_t rows, int width, int64_t count, const float* factor, void* out,
                           Element type, int64_t ld, float* buffer);
};

// Rows rounded up to whole vectors of any level.
constexpr int64_t attention_buffer(int64_t rows, int64_t width) { return (rows + 15) / 16 * 16 * width; }

}  // namespace mpt::cpu

MPT_AT_EACH_LEVEL(AttentionKernels attention_kernels();)
