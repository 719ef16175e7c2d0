// Speed of the matrix multiply at the shapes of the workloads: GFLOP/s by operand type and instruction set, with oneDNN's native
// threads beside it, by turns, where CMake found it.
//   bench_gemm [threads] [portable|avx2|avx512|avx512_bf16]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "backend/cpu/gemm/gemm.h"

#ifdef MPT_HAVE_ONEDNN
#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>
#endif

namespace {

using namespace mpt;
using namespace mpt::cpu;

struct Case {
  const char *what;
  int64_t batch, m, n, k;
  bool trans_a, trans_b;
};

// forward: y = x W^T; dx = dy W; dw = dy^T x.
constexpr Case cases[] = {
    {"gpt proj forward", 1, 2048, 256, 256, false, true}, {"gpt qkv forward", 1, 2048, 768, 256, false, true},
    {"gpt up forward", 1, 2048, 1024, 256, false, true},  {"gpt down forward", 1, 2048, 256, 1024, false, true},
    {"gpt proj dx", 1, 2048, 256, 256, false, false},     {"gpt qkv dx", 1, 2048, 256, 768, false, false},
    {"gpt up dx", 1, 2048, 256, 1024, false, false},      {"gpt down dx", 1, 2048, 1024, 256, false, false},
    {"gpt proj dw", 1, 256, 256, 2048, true, false},      {"gpt qkv dw", 1, 768, 256, 2048, true, false},
    {"gpt up dw", 1, 1024, 256, 2048, true, false},       {"gpt down dw", 1, 256, 1024, 2048, true, false},
    {"mlp 1 forward", 1, 256, 4096, 1024, false, true},   {"mlp 2 forward", 1, 256, 4096, 4096, false, true},
    {"mlp 3 forward", 1, 256, 10, 4096, false, true},     {"mlp 2 dx", 1, 256, 4096, 4096, false, false},
    {"mlp 3 dx", 1, 256, 4096, 10, false, false},         {"mlp 1 dw", 1, 4096, 1024, 256, true, false},
    {"mlp 2 dw", 1, 4096, 4096, 256, true, false},        {"mlp 3 dw", 1, 10, 4096, 256, true, false},
    {"attention scores", 64, 128, 128, 64, false, true},  {"attention values", 64, 128, 64, 128, false, false},
    {"one row", 1, 1, 4096, 4096, false, true},           {"one column", 1, 4096, 1, 4096, false, false},
    {"many small", 4096, 8, 8, 8, false, false},
};

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Runner {
  std::unique_ptr<GemmPlan> plan;
  std::vector<std::byte> a, b, c, scratch;
  std::byte *aligned_scratch = nullptr;
  std::unique_ptr<StoreEpilogue> store;
  double best = 1e30;

  Runner(const Case &s, DType type, Isa level, int threads) {
    GemmProblem p;
    p.batch = s.batch, p.m = s.m, p.n = s.n, p.k = s.k;
    p.a = p.b = type;
    p.trans_a = s.trans_a, p.trans_b = s.trans_b;
    p.lda = s.trans_a ? s.m : s.k, p.ldb = s.trans_b ? s.k : s.n;
    p.stride_a = s.m * s.k, p.stride_b = s.n * s.k;
    plan = GemmPlan::create(p, level, threads);
    const std::size_t size = size_of(type);
    // Zero bytes multiply as fast as any.
    a.resize(static_cast<std::size_t>(s.batch * s.m * s.k) * size);
    b.resize(static_cast<std::size_t>(s.batch * s.n * s.k) * size);
    c.resize(static_cast<std::size_t>(s.batch * s.m * s.n) * size);
    scratch.resize(plan->scratch_bytes() + 64);
    aligned_scratch = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
    store = std::make_unique<StoreEpilogue>(c.data(), type, s.n, s.m * s.n, false, level);
  }

  double run(const Parallel &parallel) {
    const double begin = seconds();
    plan->run(parallel, a.data(), b.data(), store->epilogue(), aligned_scratch);
    return seconds() - begin;
  }
};

#ifdef MPT_HAVE_ONEDNN
// The same product by oneDNN, with its own choice of layouts for nothing: both sides read plain row-major operands.
struct OnednnRunner {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::memory a, b, c;
  dnnl::matmul product;

  OnednnRunner(const Case &s, dnnl::memory::data_type type) {
    using Dims = dnnl::memory::dims;
    const Dims strides_a = s.trans_a ? Dims{s.m * s.k, 1, s.m} : Dims{s.m * s.k, s.k, 1};
    const Dims strides_b = s.trans_b ? Dims{s.n * s.k, 1, s.k} : Dims{s.n * s.k, s.n, 1};
    const dnnl::memory::desc desc_a({s.batch, s.m, s.k}, type, strides_a), desc_b({s.batch, s.k, s.n}, type, strides_b);
    const dnnl::memory::desc desc_c({s.batch, s.m, s.n}, type, Dims{s.m * s.n, s.n, 1});
    a = dnnl::memory(desc_a, engine), b = dnnl::memory(desc_b, engine), c = dnnl::memory(desc_c, engine);
    for (dnnl::memory *operand : {&a, &b}) std::memset(operand->get_data_handle(), 0, operand->get_desc().get_size());
    product = dnnl::matmul(dnnl::matmul::primitive_desc(engine, desc_a, desc_b, desc_c));
  }

  double run() {
    const double begin = seconds();
    product.execute(stream, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
    stream.wait();
    return seconds() - begin;
  }
};
#endif

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

}  // namespace

int main(int argc, char **argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  Isa level = isa();
  for (Isa l : {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16})
    if (argc > 2 && std::strcmp(argv[2], name_of(l)) == 0) level = l;
  const Parallel parallel(threads);
  std::printf("%d threads, %s; GFLOP/s (median), then time against float32\n", threads, name_of(level));
  std::printf("%-18s %24s %8s %8s %8s %7s %7s %9s", "", "batch m n k", "float32", "float16", "bfloat16", "f16", "bf16",
              "scratch");
#ifdef MPT_HAVE_ONEDNN
  omp_set_num_threads(threads);
  std::printf("   time against oneDNN: float32, bfloat16");
#endif
  std::printf("\n");
  for (const Case &s : cases) {
    const double flop = 2.0 * static_cast<double>(s.batch * s.m * s.n * s.k);
    std::vector<Runner> runners;
    for (DType type : {DType::f32, DType::f16, DType::bf16}) runners.emplace_back(s, type, level, threads);
    std::vector<double> times[3];
#ifdef MPT_HAVE_ONEDNN
    OnednnRunner onednn[2] = {{s, dnnl::memory::data_type::f32}, {s, dnnl::memory::data_type::bf16}};
    std::vector<double> onednn_times[2];
#endif
    const int repeats = std::clamp(static_cast<int>(4e9 / flop), 7, 400);
    for (int repeat = 0; repeat < repeats + 2; ++repeat) {
      for (int i = 0; i < 3; ++i) {
        const double t = runners[static_cast<std::size_t>(i)].run(parallel);
        if (repeat >= 2) times[i].push_back(t);
      }
#ifdef MPT_HAVE_ONEDNN
      for (int i = 0; i < 2; ++i) {
        const double t = onednn[i].run();
        if (repeat >= 2) onednn_times[i].push_back(t);
      }
#endif
    }
    const double f32 = median(times[0]), f16 = median(times[1]), bf16 = median(times[2]);
    char shape[64];
    std::snprintf(shape, sizeof shape, "%lld %lld %lld %lld", static_cast<long long>(s.batch),
                  static_cast<long long>(s.m), static_cast<long long>(s.n), static_cast<long long>(s.k));
    std::printf("%-18s %24s %8.1f %8.1f %8.1f %7.2f %7.2f %8zuK", s.what, shape, flop / f32 * 1e-9, flop / f16 * 1e-9,
                flop / bf16 * 1e-9, f16 / f32, bf16 / f32, runners[0].plan->scratch_bytes() >> 10);
#ifdef MPT_HAVE_ONEDNN
    std::printf("   %5.2f %5.2f", f32 / median(onednn_times[0]), bf16 / median(onednn_times[1]));
#endif
    std::printf("\n");
  }
}
