// The CUDA language on the host: what kernels compute does not depend on the order in which threads run, and what
// kernels do wrong is an error of the launch.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "cuda/emulated.h"
#include "kernels/block_reduce.h"
#include "kernels/launch.h"

namespace mpt::test {
namespace {

using namespace mpt::cuda;

__global__ void __launch_bounds__(256) normalise(float* y, const float* x, int columns) {
  MPT_SHARED(float, room, 32);
  x += static_cast<int64_t>(blockIdx.x) * columns;
  y += static_cast<int64_t>(blockIdx.x) * columns;
  const int begin = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x);
  float sum = 0;
  for (int i = begin; i < columns; i += step) sum += x[i];
  const float mean = block_reduce(Sum{}, sum, room) / static_cast<float>(columns);
  float squares = 0;
  for (int i = begin; i < columns; i += step) squares += (x[i] - mean) * (x[i] - mean);
  const float scale = 1 / sqrtf(block_reduce(Sum{}, squares, room) / static_cast<float>(columns) + 1e-5f);
  for (int i = begin; i < columns; i += step) y[i] = (x[i] - mean) * scale;
}

TEST_CASE("launch: rows are normalised, with the same bits for every seed") {
  constexpr std::size_t rows = 16, columns = 768;
  std::vector<float> x(rows * columns), first;
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 3 * std::sin(0.37f * static_cast<float>(i)) + 5;
  for (uint64_t seed : {1, 2, 3}) {
    EmulationOptions options;
    options.seed = seed;
    Emulated emu(options);
    const float* in = emu.to_device(x);
    float* out = emu.allocate<float>(x.size());
    launch(normalise, dim3(rows), dim3(256), 0, emu.stream(), out, in, static_cast<int>(columns));
    const std::vector<float> y = emu.to_host(out, x.size());
    if (first.empty()) first = y;
    CHECK(std::memcmp(first.data(), y.data(), y.size() * sizeof(float)) == 0);
    for (std::size_t r = 0; r < rows; ++r) {
      double mean = 0, squares = 0, worst = 0;
      for (std::size_t c = 0; c < columns; ++c) mean += x[r * columns + c];
      mean /= columns;
      for (std::size_t c = 0; c < columns; ++c) squares += std::pow(x[r * columns + c] - mean, 2);
      for (std::size_t c = 0; c < columns; ++c)
        worst = std::max(
            worst, std::fabs(y[r * columns + c] - (x[r * columns + c] - mean) / std::sqrt(squares / columns + 1e-5)));
      // Results of at most 2 from a mean and a scale that are sums of 768 / 256 terms a thread and 8 levels of a
      // tree: at most 3 + 8 roundings of 2^-24 each on values of at most 8, divided by a deviation of 2.
      CHECK(worst < 2 * 11 * 8 * std::ldexp(1.0, -24));
    }
  }
}

__global__ void lanes(int* out) {
  const int lane = static_cast<int>(threadIdx.x) % 32, base = static_cast<int>(threadIdx.x) * 8;
  out[base + 0] = __shfl_sync(full_warp, lane, 5);
  out[base + 1] = __shfl_sync(full_warp, lane, 3, 8);
  out[base + 2] = __shfl_xor_sync(full_warp, lane, 7);
  out[base + 3] = __shfl_down_sync(full_warp, lane, 4u);
  out[base + 4] = __shfl_up_sync(full_warp, lane, 4u);
  out[base + 5] = static_cast<int>(__ballot_sync(full_warp, lane % 3 == 0));
  out[base + 6] = lane < 16 ? __any_sync(0xffffu, lane == 7) : __all_sync(0xffff0000u, lane > 16);
  out[base + 7] = static_cast<int>(__match_any_sync(full_warp, lane % 5));
}

TEST_CASE("launch: shuffles and votes move what they say") {
  Emulated emu;
  int* out = emu.allocate<int>(64 * 8);
  launch(lanes, dim3(1), dim3(64), 0, emu.stream(), out);
  const std::vector<int> found = emu.to_host(out, 64 * 8);
  for (int t = 0; t < 64; ++t) {
    const int lane = t % 32;
    const int* row = &found[static_cast<std::size_t>(t) * 8];
    unsigned thirds = 0, same = 0;
    for (int l = 0; l < 32; ++l) {
      thirds |= static_cast<unsigned>(l % 3 == 0) << l;
      same |= static_cast<unsigned>(l % 5 == lane % 5) << l;
    }
    CHECK(row[0] == 5);
    CHECK(row[1] == lane / 8 * 8 + 3);
    CHECK(row[2] == (lane ^ 7));
    CHECK(row[3] == (lane + 4 < 32 ? lane + 4 : lane));
    CHECK(row[4] == (lane >= 4 ? lane - 4 : lane));
    CHECK(static_cast<unsigned>(row[5]) == thirds);
    CHECK(row[6] == (lane < 16 ? 1 : 0));
    CHECK(static_cast<unsigned>(row[7]) == same);
  }
}

struct Counters {
  unsigned total, largest, at_barrier;
  int all, any;
};

__global__ void count(Counters* c, int* order) {
  MPT_DYNAMIC_SHARED(int, staged);
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  staged[threadIdx.x] = static_cast<int>(index);
  const int odd = __syncthreads_count(threadIdx.x % 2);
  order[index] = staged[blockDim.x - 1 - threadIdx.x];
  atomicAdd(&c->total, 1u);
  atomicMax(&c->largest, index);
  if (threadIdx.x == 0) atomicAdd(&c->at_barrier, static_cast<unsigned>(odd));
  const int all = __syncthreads_and(threadIdx.x < 100), any = __syncthreads_or(threadIdx.x == 95);
  if (index == 0) {
    c->all = all;
    c->any = any;
  }
}

TEST_CASE("launch: atomics, dynamic shared memory and barriers that count") {
  Emulated emu;
  Counters* counters = emu.to_device(std::vector<Counters>(1));
  int* order = emu.allocate<int>(5 * 96);
  launch(count, dim3(5), dim3(96), 96 * sizeof(int), emu.stream(), counters, order);
  const Counters found = emu.to_host(counters, 1)[0];
  CHECK(found.total == 5 * 96);
  CHECK(found.largest == 5 * 96 - 1);
  CHECK(found.at_barrier == 5 * 48);
  CHECK(found.all == 1);
  CHECK(found.any == 1);
  const std::vector<int> reversed = emu.to_host(order, 5 * 96);
  for (int i = 0; i < 5 * 96; ++i) CHECK(reversed[static_cast<std::size_t>(i)] == i / 96 * 96 + 95 - i % 96);
}

// ---- faults

// The error of a launch, as the host learns of it: when it waits.
template <typename... P>
std::string error_of_launch(Emulated& emu, void (*kernel)(P...), unsigned threads, std::size_t shared_bytes,
                            std::type_identity_t<P>... arguments) {
  return error_of([&] {
    launch(kernel, dim3(1), dim3(threads), shared_bytes, emu.stream(), arguments...);
    emu.synchronize();
  });
}

__global__ void half_at_barrier(int* out) {
  if (threadIdx.x < 16)
    __syncthreads();
  else
    __syncwarp();
  out[threadIdx.x] = 1;
}
__global__ void early_end(int* out) {
  if (threadIdx.x >= 40) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}
__global__ void shuffle_with_ended(int* out) {
  if (threadIdx.x % 32 == 3) return;
  out[threadIdx.x] = __shfl_xor_sync(full_warp, 1, 1);
}
__global__ void shuffle_from_outside(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(0xffffu, 1, 16);
}
__global__ void different_operations(int* out) {
  if (threadIdx.x < 16)
    out[threadIdx.x] = __shfl_xor_sync(full_warp, 1, 1);
  else
    __syncwarp();
}

TEST_CASE("fault: threads part ways at a barrier") {
  Emulated emu;
  int* out = emu.allocate<int>(64);
  CHECK(
      has(error_of_launch(emu, half_at_barrier, 32, 0, out), "no thread can go on: 16 threads wait at __syncthreads"));
  CHECK(has(error_of_launch(emu, early_end, 64, 0, out), "ended"));
  CHECK(has(error_of_launch(emu, shuffle_with_ended, 32, 0, out), "a shuffle with the mask 0xffffffff"));
  CHECK(has(error_of_launch(emu, shuffle_with_ended, 20, 0, out), "in a warp of the lanes 0xfffff"));
  CHECK(has(error_of_launch(emu, shuffle_from_outside, 32, 0, out), "which the mask 0xffff lacks"));
  CHECK(has(error_of_launch(emu, different_operations, 32, 0, out), "different operations"));
  // The device is well after all of this.
  launch(lanes, dim3(1), dim3(32), 0, emu.stream(), emu.allocate<int>(32 * 8));
  CHECK(error_of([&] { emu.synchronize(); }).empty());
}

__global__ void write_at(unsigned char* at, int64_t offset) { at[offset] = 1; }
__global__ void read_at(int* out, const unsigned char* at, int64_t offset) { *out = at[offset]; }

TEST_CASE("fault: a kernel writes or reads beside an allocation") {
  Emulated emu;
  unsigned char* memory = emu.allocate<unsigned char>(1000);
  int* out = emu.allocate<int>(1);
  for (int64_t inside : {0, 500, 999}) CHECK(error_of_launch(emu, write_at, 1, 0, memory, inside).empty());
  for (int64_t beside : {-1, -200, 1000, 1023})
    CHECK(has(error_of_launch(emu, write_at, 1, 0, memory, beside), "written beside an allocation of 1000 bytes"));
  unsigned char* whole = emu.allocate<unsigned char>(1024);
  CHECK(
      has(error_of_launch(emu, write_at, 1, 0, whole, 1024), "0 bytes beyond the end of an allocation of 1024 bytes"));
  CHECK(has(error_of_launch(emu, read_at, 1, 0, out, whole, 1030), "6 bytes beyond the end"));
  CHECK(has(error_of_launch(emu, read_at, 1, 0, out, whole, -5000), "beyond the end of an allocation of 4 bytes"));
  CHECK(has(error_of_launch(emu, write_at, 1, 0, reinterpret_cast<unsigned char*>(8), 0), "address 0x8"));
}

__global__ void sum_unwritten(float* out, int written) {
  MPT_SHARED(float, numbers, 32);
  if (static_cast<int>(threadIdx.x) < written) numbers[threadIdx.x] = 1;
  __syncthreads();
  if (threadIdx.x > 0) return;
  *out = 0;
  for (float x : numbers) *out += x;
}
__global__ void written_by_one_block(float* out) {
  MPT_SHARED(float, number, 1);
  MPT_DYNAMIC_SHARED(float, dynamic);
  if (atomicAdd(reinterpret_cast<int*>(out), 1) == 0) number[0] = dynamic[0] = 1;
  out[1 + blockIdx.x] = number[0];
  out[3 + blockIdx.x] = dynamic[0];
}
__global__ void unsynchronised(float* out) {
  MPT_SHARED(float, numbers, 64);
  numbers[threadIdx.x] = 1;
  out[threadIdx.x] = numbers[63 - threadIdx.x];  // a __syncthreads is missing
}

TEST_CASE("fault: shared memory is read before it is written") {
  Emulated emu;
  float* out = emu.allocate<float>(64);
  launch(sum_unwritten, dim3(1), dim3(32), 0, emu.stream(), out, 32);
  CHECK(emu.to_host(out, 1)[0] == 32);
  launch(sum_unwritten, dim3(1), dim3(32), 0, emu.stream(), out, 31);
  CHECK(std::isnan(emu.to_host(out, 1)[0]));
  emu.device().fill(emu.stream(), out, 0, 64 * sizeof(float));
  launch(written_by_one_block, dim3(2), dim3(1), sizeof(float), emu.stream(), out);
  const std::vector<float> of_blocks = emu.to_host(out, 5);  // whichever ran first
  CHECK(std::isnan(of_blocks[1]) != std::isnan(of_blocks[2]));
  CHECK(std::isnan(of_blocks[3]) != std::isnan(of_blocks[4]));
  launch(unsynchronised, dim3(1), dim3(64), 0, emu.stream(), out);
  const std::vector<float> found = emu.to_host(out, 64);
  CHECK(std::isnan(std::accumulate(found.begin(), found.end(), 0.0f)));
}

__global__ void write_dynamic(int at) {
  MPT_DYNAMIC_SHARED(float, numbers);
  numbers[at] = 1;
}
__global__ void write_static(int at) {
  MPT_SHARED(float, first, 5);
  MPT_SHARED(float, second, 5);
  float *const a = first, *const b = second;  // pointers, which UndefinedBehaviorSanitizer lets pass
  a[at] = 1;
  b[at] = 1;
}
__global__ void large_arrays(float* out) {
  MPT_SHARED(float, numbers, 6000);
  MPT_SHARED(float, more, 7000);
  numbers[0] = more[0] = 1;
  *out = numbers[0];
}

TEST_CASE("fault: shared memory out of range, or more than there is") {
  Emulated emu;
  for (int at : {0, 24}) CHECK(error_of_launch(emu, write_dynamic, 1, 100, at).empty());
  for (int at : {25, 27, -1})
    CHECK(has(error_of_launch(emu, write_dynamic, 1, 100, at), "beside an array in shared memory"));
  for (int at : {28, 40}) CHECK(has(error_of_launch(emu, write_dynamic, 1, 100, at), "beside shared memory"));
  CHECK(error_of_launch(emu, write_static, 1, 0, 4).empty());
  for (int at : {5, 12, -3})
    CHECK(has(error_of_launch(emu, write_static, 1, 0, at), "beside an array in shared memory"));
  CHECK(has(error_of_launch(emu, large_arrays, 1, 0, emu.allocate<float>(1)), "at most 48 KiB"));
  constexpr std::size_t most = 227 << 10;
  CHECK(has(error_of_launch(emu, write_dynamic, 1, 60000, 0), "not allowed"));
  allow_shared_memory(write_dynamic, most);
  CHECK(error_of_launch(emu, write_dynamic, 1, most, most / 4 - 1).empty());
  CHECK(has(error_of([] { allow_shared_memory(write_dynamic, most + 1); }), "than a block may have"));
}

TEST_CASE("fault: launches that no device takes") {
  Emulated emu;
  int* out = emu.allocate<int>(2048 * 8);
  const auto error = [&](dim3 grid, dim3 block) {
    return error_of([&] { launch(lanes, grid, block, 0, emu.stream(), out); });
  };
  CHECK(has(error(dim3(0), dim3(32)), "grid"));
  CHECK(has(error(dim3(1, 65536), dim3(32)), "grid"));
  CHECK(has(error(dim3(1), dim3(1056)), "block"));
  CHECK(has(error(dim3(1), dim3(1, 1, 65)), "block"));
  CHECK(has(error_of([&] { launch(lanes, dim3(1), dim3(32), 0, nullptr, out); }), "no stream"));
}

}  // namespace
}  // namespace mpt::test
