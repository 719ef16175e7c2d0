// What cuDNN says of our attention graphs for a device that is only described: its heuristics and its check of support work
// without one, building plans does not.
#include <doctest/doctest.h>

#include "backend/cuda/lib/device_cuda.h"
#include "backend/cuda/lib/dnn_cudnn.h"

namespace mpt::test {
namespace {

using cuda::AttentionProblem;

// Written by hand in the form in which cuDNN serialises a device's properties.
const cuda::DescribedDevice hopper{
    R"({"maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64], "cudaDeviceId": 0, "deviceVer": 900,
        "driverVer": 13000, "cudnnVersion": 91900, "regsPerBlock": 65536, "multiProcessorCount": 132, "warpSize": 32,
        "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448, "reservedSharedMemoryPerBlock": 1024,
        "maxRegistersPerSM": 65536, "maxCtasPerSM": 32, "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048,
        "pciDeviceId": 0, "isTccDriver": 0, "supportCoopLaunch": 1, "totalGlobalMem": 150000000000,
        "smClockRateKHz": 1980000, "memClockRateKHz": 3201000, "l2CacheSize": 62914560, "deviceName": "NVIDIA H200"})",
    90};

struct Setup {
  int64_t heads = 12, kv_heads = 12, head_size = 64, q_time = 1024, kv_time = 1024;
  bool causal = false, lengths = false, packed = true;
  DType type = DType::f16;
};

AttentionProblem problem_of(const Setup& s) {
  AttentionProblem p;
  p.type = s.type;
  p.batch = 4;
  p.heads = s.heads;
  p.kv_heads = s.kv_heads;
  p.q_time = s.q_time;
  p.kv_time = s.kv_time;
  p.head_size = s.head_size;
  p.scale = 0.125;
  p.causal = s.causal;
  p.lengths = s.lengths;
  const auto layout = [&](int64_t time, int64_t heads) {
    const int64_t row = heads * s.head_size;
    return AttentionProblem::Layout{time * row, s.head_size, row};
  };
  const int64_t all = s.heads + 2 * s.kv_heads;
  p.q = layout(s.q_time, s.packed ? all : s.heads);
  p.k = p.v = layout(s.kv_time, s.packed ? all : s.kv_heads);
  p.out = p.dout = layout(s.q_time, s.heads);
  p.dq = p.q;
  p.dk = p.dv = p.k;
  return p;
}

void check_taken(const Setup& setup) {
  CAPTURE(setup.head_size);
  CAPTURE(setup.kv_heads);
  CAPTURE(setup.causal);
  CAPTURE(setup.lengths);
  const AttentionProblem problem = problem_of(setup);
  CHECK(cuda::cudnn_refusal(problem, false, hopper) == "");
  CHECK(cuda::cudnn_refusal(problem, true, hopper) == "");
}

TEST_CASE("cuDNN's attention: packed projections, causal or not, in both types") {
  REQUIRE(cuda::cudnn_version() >= 90800);  // older ones plan on devices only
  for (const DType type : {DType::f16, DType::bf16})
    for (const bool causal : {false, true})
      for (const int64_t size : {64, 80, 128}) check_taken({.head_size = size, .causal = causal, .type = type});
}

TEST_CASE("cuDNN's attention: key lengths") {
  check_taken({.lengths = true});
  check_taken({.causal = true, .lengths = true});
}

TEST_CASE("cuDNN's attention: shared key heads, separate tensors, times that fill no tile") {
  check_taken({.kv_heads = 3, .causal = true});
  check_taken({.kv_heads = 1, .packed = false});
  check_taken({.q_time = 257, .kv_time = 333, .packed = false});
}

TEST_CASE("cuDNN's attention: what it does not take is refused with a reason") {
  CHECK(cuda::cudnn_refusal(problem_of({.head_size = 60}), false, hopper) != "");
  CHECK(cuda::cudnn_refusal(problem_of({.head_size = 60}), true, hopper) != "");
  CHECK(cuda::cudnn_refusal(problem_of({.head_size = 264}), true, hopper) != "");
  CHECK(cuda::cudnn_refusal(problem_of({.heads = 12, .kv_heads = 5}), false, hopper) != "");
}

TEST_CASE("cuDNN is loaded without a device; the first plan is what needs one") {
  CHECK(cuda::make_cudnn() != nullptr);
}

}  // namespace
}  // namespace mpt::test
