// The emulated libraries refuse what would go wrong on a device: extents beyond an allocation, wrong leading
// dimensions, broken promises of alignment, workspaces that are too small.
#include <doctest/doctest.h>

#include <cmath>

#include "cuda/emulated.h"

namespace mpt::test {
namespace {

using namespace mpt::cuda;

// D (m x n) = A (m x k) B (k x n) in FP32, in memory that fits exactly.
struct Product {
  static constexpr int64_t m = 8, n = 12, k = 20;
  Emulated emu;
  BlasProblem p;
  BlasOperands o;
  Product() {
    p.m = m;
    p.n = n;
    p.k = k;
    p.lda = p.ldd = m;
    p.ldb = k;
    o.a = emu.to_device(std::vector<float>(m * k, 1));
    o.b = emu.to_device(std::vector<float>(k * n, 1));
    o.d = emu.allocate<float>(m * n);
  }
  std::string error() {
    return error_of([&] {
      const auto plan = emu.blas().plan(p, 1 << 20);
      REQUIRE(plan != nullptr);
      if (plan->workspace_bytes() > 0 && !o.workspace)
        o.workspace = emu.allocate<unsigned char>(plan->workspace_bytes());
      plan->run(emu.stream(), o);
      emu.synchronize();
    });
  }
};

TEST_CASE("checks: a matrix multiply of memory that fits is right") {
  Product x;
  CHECK(x.error().empty());
  for (float d : x.emu.to_host(static_cast<const float*>(x.o.d), Product::m * Product::n)) CHECK(d == Product::k);
}

TEST_CASE("checks: wrong leading dimensions") {
  {
    Product x;
    x.p.lda = 24;  // beyond A
    CHECK(has(x.error(), "blas: A: 1856 bytes from"));
  }
  {
    Product x;
    x.p.ldb = 12;  // rows and columns mixed up
    CHECK(has(x.error(), "B: leading dimension 12, expected at least its 20 rows"));
  }
  {
    Product x;
    x.p.transpose_b = true;  // B is 12 x 20 then, and with its 20 rows' leading dimension beyond its memory
    CHECK(has(x.error(), "blas: B"));
  }
  {
    Product x;
    x.p.ldd = 12;
    CHECK(has(x.error(), "blas: D"));
  }
}

TEST_CASE("checks: batches beyond memory or into one another") {
  {
    Product x;
    x.p.batch = 2;
    x.p.stride_d = Product::m * Product::n;
    CHECK(has(x.error(), "blas: D: 768 bytes from"));
  }
  {
    Product x;
    x.p.batch = 2;
    CHECK(has(x.error(), "the matrices D of a batch overlap"));
  }
}

TEST_CASE("checks: operands that are missing, misaligned or overlap") {
  {
    Product x;
    x.p.bias = true;
    CHECK(has(x.error(), "blas: bias: 32 bytes from (nil): a null pointer"));
  }
  {
    Product x;
    x.o.a = static_cast<const float*>(x.o.a) + 1;
    x.p.k = Product::k - 1;
    x.p.ldb = Product::k;
    CHECK(has(x.error(), "promised an alignment of 16 bytes"));
    x.p.alignment = 4;
    CHECK(x.error().empty());
  }
  {
    Product x;
    x.o.d = const_cast<void*>(x.o.b);
    CHECK(has(x.error(), "D overlaps A or B"));
  }
  {
    Product x;
    const std::vector<float> host(Product::m * Product::k);
    x.o.a = host.data();
    CHECK(has(x.error(), "blas: A: 640 bytes"));
    CHECK(has(x.error(), "host memory"));
  }
}

TEST_CASE("checks: a workspace that is too small or misaligned") {
  Product x;
  unsigned char* memory = x.emu.allocate<unsigned char>(4096 + 256);
  x.o.workspace = memory + 512;
  CHECK(has(x.error(), "blas: workspace"));
  x.o.workspace = memory + 128;
  CHECK(has(x.error(), "not aligned to 256 bytes"));
  x.o.workspace = memory + 256;
  CHECK(x.error().empty());
}

TEST_CASE("checks: attention beyond its memory") {
  Emulated emu;
  AttentionProblem p;
  p.batch = 2;
  p.heads = p.kv_heads = 3;
  p.q_time = p.kv_time = 5;
  p.head_size = 8;
  p.q = p.k = p.v = p.out = {3 * 5 * 8, 5 * 8, 8};
  constexpr std::size_t elements = 2 * 3 * 5 * 8;
  AttentionOperands o;
  const std::vector<uint16_t> zero(elements, 0);
  o.q = emu.to_device(zero);
  o.k = emu.to_device(zero);
  o.v = emu.to_device(zero);
  o.out = emu.allocate<uint16_t>(elements);
  o.logsumexp = emu.allocate<float>(2 * 3 * 5);
  const auto error = [&] {
    return error_of([&] {
      const auto plan = emu.dnn()->attention(p);
      REQUIRE(plan != nullptr);
      plan->run(emu.stream(), o);
      emu.synchronize();
    });
  };
  CHECK(error().empty());
  CHECK(std::fabs(emu.to_host(o.logsumexp, 1)[0] - std::log(5.0f)) < 1e-6);
  p.k = {3 * 5 * 8, 8, 48};  // as if packed three times as wide
  CHECK(has(error(), "attention: k"));
  p.k = p.q;
  p.lengths = true;
  CHECK(has(error(), "attention: lengths"));
  p.lengths = false;
  o.logsumexp = emu.allocate<float>(2 * 3 * 5 - 1);
  CHECK(has(error(), "attention: logsumexp"));
  p.head_size = 12;
  CHECK(emu.dnn()->attention(p) == nullptr);
}

}  // namespace
}  // namespace mpt::test
