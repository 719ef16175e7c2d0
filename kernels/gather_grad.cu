#include "kernels/gather_grad.h"

#include "kernels/divider.h"

namespace mpt::cuda {
namespace {

constexpr int threads = 128;
constexpr int batch = 4;  // rows that are on their way at a time

template <int width>
__device__ __forceinline__ void load_columns(const void* tensor, Element type, int64_t i, float (&x)[width]) {
  if constexpr (width == 1)
    x[0] = load_element(tensor, type, i);
  else
    load_vector(tensor, type, i, x);
}
template <int width>
__device__ __forceinline__ void store_columns(void* tensor, Element type, int64_t i, const float (&x)[width]) {
  if constexpr (width == 1)
    store_element(tensor, type, i, x[0]);
  else
    store_vector(tensor, type, i, x);
}

// sum += the rows row(begin) .. row(end - 1), in order.
template <int width, typename RowStart>
__device__ __forceinline__ void add_rows(const void* tensor, Element type, int begin, int end, RowStart start,
                                         float (&sum)[width]) {
  int k = begin;
  for (; k + batch <= end; k += batch) {
    int64_t at[batch];
    float x[batch][width];
    MPT_UNROLL
    for (int b = 0; b < batch; ++b) at[b] = start(k + b);
    MPT_UNROLL
    for (int b = 0; b < batch; ++b) load_columns<width>(tensor, type, at[b], x[b]);
    MPT_UNROLL
    for (int b = 0; b < batch; ++b) MPT_UNROLL
    for (int j = 0; j < width; ++j) sum[j] += x[b][j];
  }
  for (; k < end; ++k) {
    float x[width];
    load_columns<width>(tensor, type, start(k), x);
    MPT_UNROLL
    for (int j = 0; j < width; ++j) sum[j] += x[j];
  }
}

// The sums of whole chunks, of rows that have more than one. A block looks at 16 places of the sorted picks for those where a
// chunk begins.
template <int width>
__global__ void __launch_bounds__(threads) chunks_kernel(GatherGradArgs args) {
  constexpr int places = gather_chunk / 2;
  const int32_t* starts = args.sorted.starts;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * places;
  const int64_t last = first + places < starts[args.count] ? first + places : starts[args.count];
  const int64_t columns = args.inner / width;
  for (int64_t place = first; place < last; ++place) {
    const uint32_t row = args.sorted.keys[place];
    const int start = starts[row], end = starts[row + 1], k = static_cast<int>(place);
    if (end - start <= gather_chunk || (k - start) % gather_chunk != 0) continue;
    const int stop = end - k < gather_chunk ? end : k + gather_chunk;
    const int64_t slot = start / places + (k - start) / gather_chunk;
    const int64_t stride = static_cast<int64_t>(gridDim.y) * threads;
    for (int64_t i = static_cast<int64_t>(blockIdx.y) * threads + threadIdx.x; i < args.outer * columns; i += stride) {
      const int64_t outer = args.outer == 1 ? 0 : i / columns, column = (i - outer * columns) * width;
      float sum[width] = {};
      add_rows<width>(
          args.dy, args.dy_type, k, stop,
          [&](int at) { return (outer * args.picks + args.sorted.order[at]) * args.inner + column; }, sum);
      store_columns<width>(args.partials, Element::f32, (slot * args.outer + outer) * args.inner + column, sum);
    }
  }
}

// All elements of dx, a group of columns to a thread.
template <int width>
__global__ void __launch_bounds__(threads)
    rows_kernel(GatherGradArgs args, bool small, Divider columns, Divider count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i >= args.outer * args.count * (args.inner / width)) return;
  int64_t outer, row, column;
  if (small) {
    uint32_t rest = static_cast<uint32_t>(i);
    column = columns.divide(rest);
    row = count.divide(rest);
    outer = rest;
  } else {
    const int64_t all = i / (args.inner / width);
    column = i - all * (args.inner / width);
    outer = all / args.count;
    row = all - outer * args.count;
  }
  column *= width;
  const int start = args.sorted.starts[row], end = args.sorted.starts[row + 1];
  float sum[width] = {};
  if (end - start <= gather_chunk) {
    add_rows<width>(
        args.dy, args.dy_type, start, end,
        [&](int at) { return (outer * args.picks + args.sorted.order[at]) * args.inner + column; }, sum);
  } else {
    const int slot = start / (gather_chunk / 2), chunks = (end - start + gather_chunk - 1) / gather_chunk;
    add_rows<width>(
        args.partials, Element::f32, slot, slot + chunks,
        [&](int at) { return (at * args.outer + outer) * args.inner + column; }, sum);
  }
  store_columns<width>(args.dx, args.dx_type, (outer * args.count + row) * args.inner + column, sum);
}

template <int width>
void launch_sums(const GatherGradArgs& args, Stream stream) {
  const int64_t columns = args.inner / width, all = args.outer * args.count * columns;
  if (all == 0) return;
  if (args.picks > gather_chunk)
    launch(chunks_kernel<width>,
           dim3(blocks_for(args.picks, gather_chunk / 2, INT32_MAX), blocks_for(args.outer * columns, threads, 1024)),
           threads, 0, stream, args);
  const bool small = all <= INT32_MAX;
  launch(rows_kernel<width>, blocks_for(all, threads, INT32_MAX), threads, 0, stream, args, small,
         Divider(small ? static_cast<uint32_t>(columns) : 1), Divider(small ? static_cast<uint32_t>(args.count) : 1));
}

}  // namespace

void gather_grad(const GatherGradArgs& args, Stream stream) {
  args.vector ? launch_sums<vector_length>(args, stream) : launch_sums<1>(args, stream);
}

}  // namespace mpt::cuda
