#include "kernels/attention_padding.h"

namespace mpt::cuda {
namespace {

constexpr int threads = 256;
constexpr int times_per_block = 32;

__global__ void lengths_kernel(AttentionLengthsArgs args) {
  for (int64_t b = blockIdx.x * static_cast<int64_t>(threads) + threadIdx.x; b < args.batch;
       b += gridDim.x * static_cast<int64_t>(threads)) {
    const int32_t length = args.lengths[b] < args.keys ? args.lengths[b] : args.keys;
    args.key_lengths[b] = length > 1 ? length : 1;
    args.query_lengths[b] = args.queries;
  }
}

__device__ __forceinline__ void clear_row(const HeadsOut& tensor, int64_t b, int64_t t, int64_t count) {
  if (tensor.data == nullptr) return;
  for (int64_t i = threadIdx.x; i < count; i += threads)
    store_element(tensor.data, tensor.type, b * tensor.batch + t * tensor.time + i, 0.0f);
}

__global__ void padding_kernel(AttentionPaddingArgs args, int64_t blocks, int64_t tasks) {
  const AttentionShape& s = args.shape;
  for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
    const int64_t b = task / blocks, first = task % blocks * times_per_block;
    const int32_t length = s.lengths[b];
    for (int64_t t = first; t < first + times_per_block; ++t) {
      if (length <= 0 && t < s.queries) {
        clear_row(args.queries, b, t, static_cast<int64_t>(s.heads) * s.head_size);
        for (int64_t h = threadIdx.x; args.logsumexp != nullptr && h < s.heads; h += threads)
          args.logsumexp[(b * s.heads + h) * s.queries + t] = -__builtin_huge_valf();
      }
      if (t >= length && t < s.keys) {
        clear_row(args.dk, b, t, static_cast<int64_t>(s.kv_heads) * s.head_size);
        clear_row(args.dv, b, t, static_cast<int64_t>(s.kv_heads) * s.head_size);
      }
    }
  }
}

}  // namespace

void attention_lengths(const AttentionLengthsArgs& args, Stream stream) {
  if (args.batch > 0) launch(lengths_kernel, dim3(blocks_for(args.batch, threads)), dim3(threads), 0, stream, args);
}

void attention_padding(const AttentionPaddingArgs& args, Stream stream) {
  const AttentionShape& s = args.shape;
  const int64_t times = s.queries > s.keys ? s.queries : s.keys;
  const int64_t blocks = (times + times_per_block - 1) / times_per_block, tasks = s.batch * blocks;
  if (tasks > 0) launch(padding_kernel, dim3(blocks_for(tasks, 1)), dim3(threads), 0, stream, args, blocks, tasks);
}

}  // namespace mpt::cuda
