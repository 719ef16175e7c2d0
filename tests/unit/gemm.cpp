// The matrix multiply of the CPU backend against sums in double, for every operand type, order and instruction set.
#include <doctest/doctest.h>

#include <tbb/global_control.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cfenv>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "backend/cpu/gemm/gemm.h"
#include "core/error.h"

namespace {

using namespace mpt;
using namespace mpt::cpu;

std::vector<Isa> available_levels() {
  std::vector<Isa> levels;
  for (Isa level : {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16})
    if (level <= detected_isa()) levels.push_back(level);
  return levels;
}

// Conversions by their definition, in double: the library's own are what is tested.
double f16_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double magnitude = exponent == 31  ? (fraction != 0 ? NAN : INFINITY)
                           : exponent == 0 ? std::ldexp(fraction, -24)
                                           : std::ldexp(1024 + fraction, exponent - 25);
  return bits >> 15 != 0 ? -magnitude : magnitude;
}
float bf16_value(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}
double value_of(const std::byte* p, DType type) {
  uint16_t half;
  float single;
  if (type == DType::f32) {
    std::memcpy(&single, p, sizeof single);
    return single;
  }
  std::memcpy(&half, p, sizeof half);
  return type == DType::f16 ? f16_value(half) : static_cast<double>(bf16_value(half));
}
// The value of `type` nearest to x, ties to even, by looking at its neighbours.
double rounded(double x, DType type) {
  if (type == DType::f32) return static_cast<double>(static_cast<float>(x));
  const int digits = type == DType::f16 ? 11 : 8, lowest = type == DType::f16 ? -24 : -133;
  if (x == 0 || !std::isfinite(x)) return x;
  const double unit = std::ldexp(1.0, std::max(std::ilogb(x) - digits + 1, lowest));
  const double result = std::nearbyint(x / unit) * unit;
  return type == DType::f16 && std::abs(result) >= 65520 ? std::copysign(INFINITY, x) : result;
}

// A matrix operand with random contents that every type holds exactly.
struct Matrix {
  Matrix(std::size_t count, DType t, unsigned seed) : type(t), bytes(count * size_of(t)) {
    std::mt19937 random(seed);
    for (std::size_t i = 0; i < count; ++i) {
      const int digits = static_cast<int>(random() % 255) - 127;  // seven bits and sign
      const float value = std::ldexp(static_cast<float>(digits), static_cast<int>(random() % 5) - 8);
      set(i, value);
    }
  }
  void set(std::size_t i, float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    uint16_t half = static_cast<uint16_t>(bits >> 16);  // exact by construction
    if (type == DType::f16) {
      half = static_cast<uint16_t>(bits >> 16 & 0x8000);
      const double magnitude = std::abs(static_cast<double>(value));
      if (magnitude != 0) {
        const int exponent = std::max(std::ilogb(magnitude), -14);
        const int mantissa = static_cast<int>(std::ldexp(magnitude, 10 - exponent));
        half = static_cast<uint16_t>(half | (mantissa >= 1024 ? ((exponent + 15) << 10) + mantissa - 1024 : mantissa));
      }
    }
    if (type == DType::f32) {
      std::memcpy(&bytes[i * 4], &value, 4);
    } else {
      std::memcpy(&bytes[i * 2], &half, 2);
    }
  }
  double operator[](std::size_t i) const { return value_of(&bytes[i * size_of(type)], type); }
  DType type;
  std::vector<std::byte> bytes;
};

constexpr std::byte guard{0xa5};

// Scratch of exactly the planned size between guard bytes, filled with NaN.
struct Scratch {
  explicit Scratch(std::size_t size) : bytes(size + 3 * 64, guard), count(size) {
    begin = bytes.data() + 64 + (64 - reinterpret_cast<uintptr_t>(bytes.data()) % 64) % 64;
    std::memset(begin, 0xff, size);
  }
  bool intact() const {
    return std::all_of(bytes.data(), static_cast<const std::byte*>(begin), [](std::byte b) { return b == guard; }) &&
           std::all_of(static_cast<const std::byte*>(begin) + count, bytes.data() + bytes.size(),
                       [](std::byte b) { return b == guard; });
  }
  std::vector<std::byte> bytes;
  std::byte* begin;
  std::size_t count;
};

struct Case {
  GemmProblem problem;
  DType c = DType::f32;
  bool add = false;
  int64_t ldc = 0;
};

int64_t item_offset(const std::vector<int64_t>& offsets, int64_t stride, int64_t batch) {
  return offsets.empty() ? batch * stride : offsets[static_cast<std::size_t>(batch)];
}

std::size_t operand_size(const GemmProblem& p, bool of_a) {
  int64_t last = 0;
  for (int64_t i = 0; i < p.batch; ++i)
    last = std::max(last, of_a ? item_offset(p.offsets_a, p.stride_a, i) : item_offset(p.offsets_b, p.stride_b, i));
  const int64_t rows = of_a ? (p.trans_a ? p.k : p.m) : (p.trans_b ? p.n : p.k);
  const int64_t columns = of_a ? (p.trans_a ? p.m : p.k) : (p.trans_b ? p.k : p.n);
  // The last row ends with its last element: reading further is found by the address sanitizer.
  return static_cast<std::size_t>(last + (rows - 1) * (of_a ? p.lda : p.ldb) + columns);
}

std::vector<std::byte> run(const Case& c, Isa level, const Parallel& parallel, const Matrix& a, const Matrix& b,
                           const Matrix& before) {
  const auto plan = GemmPlan::create(c.problem, level, parallel.threads());
  Scratch scratch(plan->scratch_bytes());
  std::vector<std::byte> result = before.bytes;
  const StoreEpilogue store(result.data(), c.c, c.ldc, c.problem.m * c.ldc, c.add, level);
  plan->run(parallel, a.bytes.data(), b.bytes.data(), store.epilogue(), scratch.begin);
  CHECK(scratch.intact());
  return result;
}

// Every element within the bound of an FP32 sum of k products in any order, |error| <= k u / (1 - k u) * sum |a b| with
// u = 2^-24 (products are exact in the fused multiply-add; the portable level rounds them too, hence k + 1), and of one
// rounding to the type of C. The native BF16 instruction rounds to nearest as well but takes a subnormal for zero: each
// product and each sum may lose 2^-126.
void check(const Case& c, Isa level, const Parallel& parallel) {
  const GemmProblem& p = c.problem;
  CAPTURE(name_of(level));
  CAPTURE(name_of(p.a));
  CAPTURE(name_of(p.b));
  CAPTURE(name_of(c.c));
  CAPTURE(p.trans_a);
  CAPTURE(p.trans_b);
  const std::string extents = std::to_string(p.batch) + " x " + std::to_string(p.m) + " x " + std::to_string(p.n) +
                              " x " + std::to_string(p.k) + " threads " + std::to_string(parallel.threads());
  CAPTURE(extents);
  const Matrix a(operand_size(p, true), p.a, 1), b(operand_size(p, false), p.b, 2);
  const Matrix before(static_cast<std::size_t>(p.batch * p.m * c.ldc), c.c, 3);
  const std::vector<std::byte> result = run(c, level, parallel, a, b, before);

  const double roundings = static_cast<double>(p.k + (c.add ? 2 : 1)), u = std::ldexp(1.0, -24);
  const double bound = roundings * u / (1 - roundings * u), tiny = 2 * static_cast<double>(p.k) * std::ldexp(1.0, -126);
  const double unit = c.c == DType::f32 ? u : c.c == DType::f16 ? std::ldexp(1.0, -11) : std::ldexp(1.0, -8);
  const double subnormal = c.c == DType::f16 ? std::ldexp(1.0, -25) : 0;
  int64_t wrong = 0;
  for (int64_t batch = 0; batch < p.batch; ++batch) {
    const int64_t a0 = item_offset(p.offsets_a, p.stride_a, batch), b0 = item_offset(p.offsets_b, p.stride_b, batch);
    for (int64_t i = 0; i < p.m; ++i) {
      for (int64_t j = 0; j < c.ldc; ++j) {
        const auto at = static_cast<std::size_t>((batch * p.m + i) * c.ldc + j);
        const double found = value_of(&result[at * size_of(c.c)], c.c);
        if (j >= p.n) {  // between the rows nothing is written
          wrong += found != before[at];
          continue;
        }
        double sum = c.add ? before[at] : 0, magnitude = std::abs(sum);
        for (int64_t k = 0; k < p.k; ++k) {
          const double product = a[static_cast<std::size_t>(a0 + (p.trans_a ? k * p.lda + i : i * p.lda + k))] *
                                 b[static_cast<std::size_t>(b0 + (p.trans_b ? j * p.ldb + k : k * p.ldb + j))];
          sum += product;
          magnitude += std::abs(product);
        }
        const double error = bound * magnitude + tiny;
        const double allowed = error + unit * (std::abs(sum) + error) + subnormal;
        if (!(std::abs(found - sum) <= allowed)) ++wrong;
      }
    }
  }
  CHECK(wrong == 0);
}

Case make_case(int64_t batch, int64_t m, int64_t n, int64_t k, DType a, DType b, bool trans_a, bool trans_b) {
  Case c;
  GemmProblem& p = c.problem;
  p.batch = batch, p.m = m, p.n = n, p.k = k, p.a = a, p.b = b, p.trans_a = trans_a, p.trans_b = trans_b;
  p.lda = trans_a ? m : k;
  p.ldb = trans_b ? k : n;
  p.stride_a = m * k;
  p.stride_b = n * k;
  c.ldc = n;
  return c;
}

constexpr DType types[] = {DType::f32, DType::f16, DType::bf16};

struct ManyThreads {  // more than the machine may have
  tbb::global_control control{tbb::global_control::max_allowed_parallelism, 4};
};

}  // namespace

TEST_CASE("gemm: types, orders and odd extents on every instruction set") {
  const Parallel one(1);
  for (Isa level : available_levels())
    for (int order = 0; order < 4; ++order)
      for (DType a : types)
        for (DType b : types)
          for (const auto [m, n, k] : {std::array<int64_t, 3>{1, 1, 1},
                                       {1, 33, 3},
                                       {31, 1, 33},
                                       {3, 31, 257},
                                       {33, 17, 31},
                                       {14, 32, 16},
                                       {57, 65, 15},
                                       {29, 50, 300}})
            check(make_case(1, m, n, k, a, b, (order & 1) != 0, (order & 2) != 0), level, one);
}

TEST_CASE("gemm: few rows or columns, and batches of small items, on every instruction set") {
  struct Extents {
    int64_t batch, m, n, k;
  };
  const Parallel one(1);
  for (Isa level : available_levels())
    for (int order = 0; order < 4; ++order)
      for (DType a : types)
        for (DType b : types)
          // Few rows: along k over several chunks, or reading B's rows; few columns; items with ragged and even rows.
          for (const auto& [batch, m, n, k] : {Extents{1, 1, 300, 130},
                                               {1, 7, 273, 531},
                                               {1, 16, 260, 71},
                                               {1, 131, 1, 1031},
                                               {1, 90, 5, 65},
                                               {2, 37, 3, 520},
                                               {9, 8, 8, 8},
                                               {8, 5, 33, 7},
                                               {11, 30, 17, 9},
                                               {9, 3, 2, 64}})
            check(make_case(batch, m, n, k, a, b, (order & 1) != 0, (order & 2) != 0), level, one);
}

TEST_CASE("gemm: few columns of a batch that is one tall matrix") {
  const Parallel two(2);
  for (Isa level : available_levels())
    for (DType type : types) {
      Case c = make_case(5, 23, 2, 90, type, type, false, true);
      c.problem.stride_b = 0;
      check(c, level, two);
      c.ldc += 3;
      check(c, level, two);
    }
}

TEST_CASE("gemm: rows further apart than they are long, results of every type, adding to what is there") {
  const Parallel one(1);
  for (Isa level : available_levels())
    for (DType type : types)
      for (bool add : {false, true})
        for (int order = 0; order < 4; ++order) {
          for (const auto [batch, m, n] : {std::array<int64_t, 3>{2, 37, 45}, {2, 3, 260}, {2, 50, 2}, {9, 8, 16}}) {
            Case c = make_case(batch, m, n, 70, type, type, (order & 1) != 0, (order & 2) != 0);
            c.problem.lda += 5, c.problem.ldb += 3, c.ldc += 7;
            c.problem.stride_a = 75 * 75, c.problem.stride_b = 75 * 270;
            c.add = add;
            c.c = type;
            check(c, level, one);
          }
        }
}

TEST_CASE("gemm: batches, the same operand for all of them, unequal distances") {
  const Parallel two(2);
  for (Isa level : available_levels())
    for (int order = 0; order < 4; ++order) {
      Case c = make_case(3, 20, 40, 24, DType::f16, DType::f16, (order & 1) != 0, (order & 2) != 0);
      check(c, level, two);
      c.problem.stride_b = 0;
      check(c, level, two);
      c.problem.stride_a = 0;
      check(c, level, two);
      c.problem.stride_b = 40 * 24;
      check(c, level, two);
      c.problem.offsets_a = {20 * 24, 0, 20 * 24};
      c.problem.offsets_b = {0, 5 * 40 * 24, 40 * 24};
      check(c, level, two);
    }
}

TEST_CASE("gemm: every way of cutting the problem, with the same bits for any number of threads") {
  const ManyThreads many;
  const Parallel one(1), two(2), three(3);
  struct Extents {
    int64_t batch, m, n, k;
    bool trans_a, trans_b;
  };
  // In turn: B packed once; in several slabs; by every task, over several chunks of k; sums split along k; batches; one row;
  // one column; few rows with sums split along k; small items.
  for (const Extents& e : {Extents{1, 300, 96, 80, false, true},
                           {1, 600, 160, 1700, false, false},
                           {1, 100, 300, 700, false, true},
                           {1, 40, 64, 2050, true, false},
                           {5, 70, 33, 90, false, false},
                           {1, 1, 200, 999, false, true},
                           {1, 700, 1, 5000, false, true},
                           {1, 4, 300, 3000, false, false},
                           {50, 6, 10, 12, false, false}}) {
    for (DType type : types) {
      Case c = make_case(e.batch, e.m, e.n, e.k, type, type, e.trans_a, e.trans_b);
      check(c, isa(), three);
      const Matrix a(operand_size(c.problem, true), type, 4), b(operand_size(c.problem, false), type, 5);
      const Matrix before(static_cast<std::size_t>(e.batch * e.m * e.n), c.c, 6);
      const auto expected = run(c, isa(), one, a, b, before);
      CHECK(run(c, isa(), two, a, b, before) == expected);
      CHECK(run(c, isa(), three, a, b, before) == expected);
    }
  }
}

TEST_CASE("gemm: results are rounded once to nearest, ties to even") {
  // One product of a number and 1, so that the sum is exact and rounding alone is seen.
  const Parallel one(1);
  std::vector<float> numbers = {0.0f,
                                -0.0f,
                                1.0f + 0x1p-11f,
                                1.0f + 3 * 0x1p-11f,
                                1.0f + 0x1p-8f,
                                1.0f + 3 * 0x1p-8f,
                                65504.0f,
                                65519.0f,
                                65520.0f,
                                -65520.0f,
                                0x1p-24f,
                                0x1p-25f,
                                0x1.01p-25f,
                                3 * 0x1p-25f,
                                0x1p-14f - 0x1p-25f,
                                0x1p-14f,
                                1e30f,
                                INFINITY,
                                -INFINITY,
                                0x1.fep127f,
                                -1e-30f};
  std::mt19937 random(7);
  while (numbers.size() < 1000) {
    const uint32_t bits = (static_cast<uint32_t>(random()) & 0x8fffffffu) | 0x30000000u;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    numbers.push_back(value);
  }
  for (Isa level : available_levels())
    for (DType type : types) {
      Case c = make_case(1, 1, static_cast<int64_t>(numbers.size()), 1, DType::f32, DType::f32, false, false);
      c.c = type;
      Matrix a(1, DType::f32, 1), b(numbers.size(), DType::f32, 1);
      a.set(0, 1.0f);
      for (std::size_t i = 0; i < numbers.size(); ++i) b.set(i, numbers[i]);
      const auto result = run(c, level, one, a, b, Matrix(numbers.size(), type, 1));
      int wrong = 0;
      for (std::size_t i = 0; i < numbers.size(); ++i)
        wrong += value_of(&result[i * size_of(type)], type) != rounded(numbers[i], type);
      CAPTURE(name_of(level));
      CAPTURE(name_of(type));
      CHECK(wrong == 0);
    }
}

TEST_CASE("gemm: NaN, infinities and subnormal FP16 numbers go through") {
  const Parallel one(1);
  for (Isa level : available_levels())
    for (DType type : types) {
      Case c = make_case(1, 2, 3, 40, type, type, false, true);
      Matrix a(80, type, 1), b(120, type, 2);
      if (type == DType::f32) {
        a.set(40, NAN);
      } else {
        const uint16_t nan = type == DType::f16 ? 0x7e01 : 0x7fc1;
        std::memcpy(&a.bytes[80], &nan, 2);
      }
      const auto result = run(c, level, one, a, b, Matrix(6, c.c, 3));
      for (std::size_t i = 0; i < 6; ++i) CHECK(std::isnan(value_of(&result[i * 4], DType::f32)) == (i >= 3));
    }
  for (Isa level : available_levels()) {  // the smallest FP16 number times 1: kept
    Case c = make_case(1, 1, 1, 1, DType::f16, DType::f16, false, false);
    c.c = DType::f16;
    Matrix a(1, DType::f16, 1), b(1, DType::f16, 1);
    a.set(0, 0x1p-24f);
    b.set(0, 1.0f);
    const auto result = run(c, level, one, a, b, Matrix(1, DType::f16, 1));
    CHECK(value_of(result.data(), DType::f16) == 0x1p-24);
  }
}

TEST_CASE("gemm: the caller's rounding mode has no influence and stays") {
  Case c = make_case(1, 64, 64, 300, DType::f32, DType::f32, false, false);
  Matrix a(64 * 300, DType::f32, 1), b(64 * 300, DType::f32, 2);
  for (std::size_t i = 0; i < 64 * 300; ++i) a.set(i, 1.0f / static_cast<float>(i + 3));
  const Matrix before(64 * 64, DType::f32, 3);
  const auto expected = run(c, isa(), Parallel(2), a, b, before);
  for (int threads : {1, 2}) {
    std::fesetround(FE_UPWARD);
    const Parallel fresh(threads);  // its threads start out with this mode
    const auto upward = run(c, isa(), fresh, a, b, before);
    const int mode = std::fegetround();
    std::fesetround(FE_TONEAREST);
    CHECK(mode == FE_UPWARD);
    CHECK(upward == expected);
  }
}

TEST_CASE("gemm: one plan runs on several threads of the host at once") {
  const Parallel two(2);
  const Case c = make_case(1, 130, 100, 300, DType::bf16, DType::bf16, false, true);
  const Matrix a(operand_size(c.problem, true), DType::bf16, 1), b(operand_size(c.problem, false), DType::bf16, 2);
  const Matrix before(130 * 100, DType::f32, 3);
  const auto expected = run(c, isa(), two, a, b, before);
  const auto plan = GemmPlan::create(c.problem, isa(), two.threads());
  bool same[4] = {};
  std::vector<std::thread> hosts;
  for (bool& ok : same)
    hosts.emplace_back([&] {
      Scratch scratch(plan->scratch_bytes());
      std::vector<std::byte> result(before.bytes.size());
      const StoreEpilogue store(result.data(), c.c, c.ldc, 0, false, isa());
      ok = true;
      for (int i = 0; i < 20; ++i) {
        plan->run(two, a.bytes.data(), b.bytes.data(), store.epilogue(), scratch.begin);
        ok = ok && result == expected && scratch.intact();
      }
    });
  for (std::thread& host : hosts) host.join();
  for (bool ok : same) CHECK(ok);
}

TEST_CASE("parallel: every task once, worker numbers below the count and never shared, exceptions come out") {
  const ManyThreads many;
  for (int threads : {1, 2, 3}) {
    const Parallel parallel(threads);
    CHECK(parallel.threads() == threads);
    std::vector<std::atomic<int>> calls(1000), busy(static_cast<std::size_t>(threads));
    std::atomic<int> bad = 0;
    parallel.run(1000, [&](int64_t task, int worker) {
      if (worker < 0 || worker >= threads || busy[static_cast<std::size_t>(worker)].fetch_add(1) != 0) ++bad;
      ++calls[static_cast<std::size_t>(task)];
      busy[static_cast<std::size_t>(worker)].fetch_sub(1);
    });
    CHECK(bad == 0);
    CHECK(std::all_of(calls.begin(), calls.end(), [](const std::atomic<int>& n) { return n == 1; }));
    CHECK_THROWS_AS(parallel.run(10,
                                 [](int64_t task, int) {
                                   if (task == 3) fail(MPT_ERROR_INTERNAL, "task 3");
                                 }),
                    Error);

    std::vector<std::atomic<int>> covered(1001);
    parallel.for_range(1001, 16, [&](int64_t begin, int64_t end) {
      if (end - begin > 16 || begin % 16 != 0) ++bad;
      for (int64_t i = begin; i < end; ++i) ++covered[static_cast<std::size_t>(i)];
    });
    CHECK(bad == 0);
    CHECK(std::all_of(covered.begin(), covered.end(), [](const std::atomic<int>& n) { return n == 1; }));
  }
  CHECK_THROWS_AS(Parallel(-1), Error);
}

TEST_CASE("isa: the environment lowers the level, never raises it, and must name one") {
  CHECK(limited_isa(Isa::avx512, nullptr) == Isa::avx512);
  CHECK(limited_isa(Isa::avx512, "") == Isa::avx512);
  CHECK(limited_isa(Isa::avx512_bf16, "avx512") == Isa::avx512);
  CHECK(limited_isa(Isa::avx512_bf16, "portable") == Isa::portable);
  CHECK(limited_isa(Isa::avx2, "avx512_bf16") == Isa::avx2);
  CHECK_THROWS_AS(limited_isa(Isa::avx2, "sse"), Error);
  CHECK(isa() <= detected_isa());
}
