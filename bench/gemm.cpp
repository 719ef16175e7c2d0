// Speed of the matrix multiply at the shapes of the workloads: GFLOP/s by operand type and instruction set. Beside it, by
// turns and where CMake found it, oneDNN: its native call, and its one-thread primitives on tiles that our threads run, the
// tiling being the fastest of many for each shape. One thread is measured in its processor time, several by the clock.
//   gemm [threads] [portable|avx2|avx512|avx512_bf16] [part of a shape's name]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/gemm/gemm.h"

#ifdef MPT_HAVE_ONEDNN
#include "gemm_onednn.h"
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

bool processor_time = false;

double seconds() {
  if (processor_time) {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <typename F>
double time_of(F &&f) {
  const double begin = seconds();
  f();
  return seconds() - begin;
}

struct Runner {
  std::unique_ptr<GemmPlan> plan;
  std::vector<std::byte> a, b, c, scratch;
  std::byte *aligned_scratch = nullptr;
  std::unique_ptr<StoreEpilogue> store;

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

  void run(const Parallel &parallel) { plan->run(parallel, a.data(), b.data(), store->epilogue(), aligned_scratch); }
};

double median(std::vector<double> v) {
  if (v.empty()) return 0;
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

#ifdef MPT_HAVE_ONEDNN
// oneDNN's two ways for one shape and type.
struct Peer {
  std::unique_ptr<bench::OnednnNative> native;
  std::unique_ptr<bench::OnednnTiles> tiles;
  bench::Tiling tiling{};
  std::vector<double> native_times, tiles_times;

  Peer(const Case &s, dnnl::memory::data_type type, const Parallel &parallel) {
    const bench::ProductShape shape{s.batch, s.m, s.n, s.k, s.trans_a, s.trans_b};
    native = std::make_unique<bench::OnednnNative>(shape, type, parallel.threads());
    if (!*native) return;
    double best = 1e30;
    for (const bench::Tiling &t : bench::tilings(shape)) {
      auto candidate = std::make_unique<bench::OnednnTiles>(shape, type, t, parallel.threads());
      candidate->run(parallel);
      double time = 1e30;
      for (int i = 0; i < 2; ++i) time = std::min(time, time_of([&] { candidate->run(parallel); }));
      if (time < best) best = time, tiling = t, tiles = std::move(candidate);
    }
  }

  void measure(const Parallel &parallel, bool keep) {
    if (!*native) return;
    const double native_time = time_of([&] { native->run(); });
    const double tiles_time = tiles ? time_of([&] { tiles->run(parallel); }) : 0;
    if (!keep) return;
    native_times.push_back(native_time);
    if (tiles) tiles_times.push_back(tiles_time);
  }
};

void print_ratio(double ours, const std::vector<double> &theirs) {
  if (theirs.empty()) {
    std::printf("     -");
  } else {
    std::printf(" %5.2f", ours / median(theirs));
  }
}
#endif

}  // namespace

int main(int argc, char **argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  Isa level = isa();
  std::string only;
  for (int i = 2; i < argc; ++i) {
    bool is_level = false;
    for (Isa l : {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16})
      if (std::strcmp(argv[i], name_of(l)) == 0) level = l, is_level = true;
    if (!is_level) only = argv[i];
  }
  processor_time = threads == 1;
  const Parallel parallel(threads);
  std::printf("%d threads, %s; GFLOP/s (median), then time against float32\n", threads, name_of(level));
  std::printf("%-17s %18s %7s %7s %8s %5s %5s %7s", "", "batch m n k", "float32", "float16", "bfloat16", "f16", "bf16",
              "scratch");
#ifdef MPT_HAVE_ONEDNN
  std::printf("   time against oneDNN's native call: f32, bf16; on tiles: f32, bf16; the tiling");
#endif
  std::printf("\n");
  for (const Case &s : cases) {
    if (std::string(s.what).find(only) == std::string::npos) continue;
    const double flop = 2.0 * static_cast<double>(s.batch * s.m * s.n * s.k);
    std::vector<Runner> runners;
    for (DType type : {DType::f32, DType::f16, DType::bf16}) runners.emplace_back(s, type, level, threads);
    std::vector<double> times[3];
#ifdef MPT_HAVE_ONEDNN
    Peer peers[2] = {{s, dnnl::memory::data_type::f32, parallel}, {s, dnnl::memory::data_type::bf16, parallel}};
#endif
    const int repeats = std::clamp(static_cast<int>(4e9 / flop), 11, 200);
    for (int repeat = 0; repeat < repeats + 2; ++repeat) {
      for (int i = 0; i < 3; ++i) {
        const double t = time_of([&] { runners[static_cast<std::size_t>(i)].run(parallel); });
        if (repeat >= 2) times[i].push_back(t);
      }
#ifdef MPT_HAVE_ONEDNN
      for (Peer &peer : peers) peer.measure(parallel, repeat >= 2);
#endif
    }
    const double f32 = median(times[0]), f16 = median(times[1]), bf16 = median(times[2]);
    const std::string shape =
        std::to_string(s.batch) + " " + std::to_string(s.m) + " " + std::to_string(s.n) + " " + std::to_string(s.k);
    std::printf("%-17s %18s %7.1f %7.1f %8.1f %5.2f %5.2f %6zuK", s.what, shape.c_str(), flop / f32 * 1e-9,
                flop / f16 * 1e-9, flop / bf16 * 1e-9, f16 / f32, bf16 / f32, runners[0].plan->scratch_bytes() >> 10);
#ifdef MPT_HAVE_ONEDNN
    std::printf("  ");
    print_ratio(f32, peers[0].native_times), print_ratio(bf16, peers[1].native_times);
    std::printf("  ");
    print_ratio(f32, peers[0].tiles_times), print_ratio(bf16, peers[1].tiles_times);
    const bench::Tiling &t = peers[0].tiling;
    std::printf("   %lld x %lldx%lld", static_cast<long long>(t.items), static_cast<long long>(t.m),
                static_cast<long long>(t.n));
    if (t.parts > 1) std::printf(" /%lld", static_cast<long long>(t.parts));
#endif
    std::printf("\n");
    std::fflush(stdout);
  }
}
