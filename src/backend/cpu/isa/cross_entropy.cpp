#include "backend/cpu/isa/cross_entropy_kernels.h"

#include "backend/cpu/isa/row_blocks.h"

namespace mpt::cpu::MPT_ISA {
namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

void rows(const CrossEntropyTask& task, const void* logits, const int32_t* labels, int64_t first, int64_t last,
          float* losses, float* logsumexp) {
  float buffer[row_block];
  for (int64_t row = first; row < last; ++row) {
    const int64_t start = row * task.classes;
    // One reading of the row: where a block raises the maximum, the sum so far shrinks.
    float top = -infinity, sum = 0, sum_of_logits = 0;
    for_blocks(task.classes, [&](int64_t begin, int64_t count) {
      const float* x = read_block(task.logits_type, logits, start + begin, count, buffer);
      const float new_top = max_of(x, count, top);
      const float shrink = new_top == top ? 1.0f : exp_f32(top - new_top);
      top = new_top;
      // -inf: nothing but -inf so far, a sum of 0.
      const float base = top == -infinity ? 0.0f : top;
      sum = multiply_add(sum, shrink, sum_of(count, [&](int64_t i) { return exp_f32(x[i] - base); }));
      if (task.smoothing != 0) sum_of_logits += sum_of(count, [&](int64_t i) { return x[i]; });
    });
    logsumexp[row] = top + log_f32(sum);
    const int32_t label = labels[row];
    if (label == task.ignore_index) {
      losses[row] = 0;
    } else if (label < 0 || label >= task.classes) {
      losses[row] = not_a_number;
    } else {
      float loss = (1 - task.smoothing) * (logsumexp[row] - load_one(task.logits_type, logits, start + label));
      if (task.smoothing != 0) {
        loss += task.smoothing * (logsumexp[row] - sum_of_logits / static_cast<float>(task.classes));
      }
      losses[row] = loss;
    }
  }
}

void rows_grad(const CrossEntropyTask& task, const void* logits, const int32_t* labels, const float* logsumexp,
               float factor, int64_t first, int64_t last, void* dlogits) {
  float buffer[row_block], result[row_block];
  const float uniform = task.smoothing / static_cast<float>(task.classes), hit = 1 - task.smoothing;
  for (int64_t row = first; row < last; ++row) {
    const int64_t start = row * task.classes;
    const int32_t label = labels[row];
    const bool ignored = label == task.ignore_index;
    const bool valid = label >= 0 && label < task.classes;
    const float lse = ignored || valid ? logsumexp[row] : not_a_number;
    for_blocks(task.classes, [&](int64_t begin, int64_t count) {
      const float* x = read_block(task.logits_type, logits, start + begin, count, buffer);
      float* out = write_block(task.dlogits_type, dlogits, start + begin, result);
      if (ignored) {
        std::memset(out, 0, static_cast<std::size_t>(count) * sizeof(float));
      } else {
        const int64_t at = label - begin;
        const bool here = at >= 0 && at < count;
        const float p = here ? exp_f32(x[at] - lse) : 0.0f;
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) out[i] = factor * (exp_f32(x[i] - lse) - uniform);
        if (here) out[at] = factor * ((p - hit) - uniform);
      }
      finish_block(task.dlogits_type, out, count, dlogits, start + begin);
    });
  }
}

}  // namespace

CrossEntropyKernels cross_entropy_kernels() { return {rows, rows_grad}; }

}  // namespace mpt::cpu::MPT_ISA
