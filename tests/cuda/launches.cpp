// The CUDA language on the host: what kernels compute, and that their faults become errors.
#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <limits>

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
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < columns; i += static_cast<int>(blockDim.x)) sum += x[i];
  const float mean = block_reduce(Sum{}, sum, room) / static_cast<float>(columns);
  float squares = 0;
  for (int i = static_cast<int>(threadIdx.x); i < columns; i += static_cast<int>(blockDim.x))
    squares += (x[i] - mean) * (x[i] - mean);
  const float scale = 1 / sqrtf(block_reduce(Sum{}, squares, room) / static_cast<float>(columns) + 1e-5f);
  for (int i = static_cast<int>(threadIdx.x); i < columns; i += static_cast<int>(blockDim.x)) y[i] = (x[i] - mean) * scale;
}

std::vector<float> wave(std::size_t n) {
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = 3 * std::sin(0.37f * static_cast<float>(i)) + 5;
  return x;
}

TEST_CASE("launch: rows are normalised, with the same bits for every seed") {
  constexpr std::size_t rows = 16, columns = 768;
  const std::vector<float> x = wave(rows * columns);
  std::vector<float> first;
  for (uint64_t seed : {1, 2, 3}) {
    EmulationOptions options;
    options.seed = seed;
    const Emulated emu(options);
    const float* in = emu.to_device(x);
    float* out = emu.allocate<float>(x.size());
    const auto start = std::chrono::steady_clock::now();
    launch(normalise, dim3(rows), dim3(256), 0, emu.stream(), out, in, static_cast<int>(columns));
    emu.synchronize();
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
    MESSAGE("a block of 256 threads took " << time.count() / rows << " ms");
    const std::vector<float> y = emu.to_host(out, x.size());
    if (first.empty()) first = y;
    CHECK(std::memcmp(first.data(), y.data(), y.size() * sizeof(float)) == 0);
    for (std::size_t r = 0; r < rows; ++r) {
      double mean = 0, squares = 0;
      for (std::size_t c = 0; c < columns; ++c) mean += x[r * columns + c];
      mean /= columns;
      for (std::size_t c = 0; c < columns; ++c) squares += std::pow(x[r * columns + c] - mean, 2);
      // 768 terms of FP32 sums, of values below 8: 1e-4 is far above the rounding, far below any mistake.
      for (std::size_t c = 0; c < columns; ++c)
        CHECK(std::fabs(y[r * columns + c] - (x[r * columns + c] - mean) / std::sqrt(squares / columns + 1e-5)) < 1e-4);
    }
  }
}

}  // namespace
}  // namespace mpt::test
