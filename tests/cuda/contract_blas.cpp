// lib/blas.h by its contract: tables of problems against plain loops in double. The emulation runs them, and on a GPU
// the real library does.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "cuda/device_session.h"
#include "cuda/numbers.h"
#include "cuda/tested_libraries.h"

namespace mpt::test {
namespace {

using namespace mpt::cuda;

// A matrix of a batch in memory: its contents as numbers, and the bytes of the whole extent. What lies between
// columns is NaN.
struct Operand {
  DType type = DType::f32;
  int64_t rows = 0, columns = 0, ld = 0, stride = 0, batch = 1;
  std::vector<unsigned char> bytes;

  int64_t extent() const { return (batch - 1) * stride + (columns - 1) * ld + rows; }
  int64_t at(int64_t b, int64_t row, int64_t column) const { return b * stride + row + column * ld; }
  double operator()(int64_t b, int64_t row, int64_t column) const { return number_at(bytes, type, at(b, row, column)); }
  void allocate() { bytes.assign(static_cast<std::size_t>(extent()) * size_of(type), 0xff); }
  void fill(std::mt19937_64& random) {
    allocate();
    std::uniform_real_distribution<double> uniform(-2, 2);
    for (int64_t b = 0; b < (stride == 0 ? 1 : batch); ++b)
      for (int64_t c = 0; c < columns; ++c)
        for (int64_t r = 0; r < rows; ++r) set_number(bytes, type, at(b, r, c), uniform(random));
  }
};

struct Types {
  const char* name;
  DType operands, result;
};
constexpr Types all_types[] = {{"fp32", DType::f32, DType::f32},
                               {"fp16", DType::f16, DType::f16},
                               {"bf16", DType::bf16, DType::bf16},
                               {"fp16 to fp32", DType::f16, DType::f32},
                               {"bf16 to fp32", DType::bf16, DType::f32}};

struct Variant {
  const char* name;
  bool add_c = false, bias = false;
  BlasEpilogue epilogue = BlasEpilogue::none;
  int64_t batch = 1;
  bool same_a = false;    // one A for the whole batch
  bool in_place = false;  // C is D
};
const Variant variants[] = {
    {"plain"},
    {"plus C", true},
    {"plus C in place", true, false, BlasEpilogue::none, 1, false, true},
    {"bias", false, true},
    {"relu", false, false, BlasEpilogue::relu},
    {"bias and relu", false, true, BlasEpilogue::relu},
    {"gelu", false, false, BlasEpilogue::gelu_tanh},
    {"bias and gelu", false, true, BlasEpilogue::gelu_tanh},
    {"bias and gelu with its input", false, true, BlasEpilogue::gelu_tanh_aux},
    {"gradient of gelu", false, false, BlasEpilogue::gelu_tanh_grad},
    {"sums of A", false, false, BlasEpilogue::bias_gradient_a},
    {"sums of B", false, false, BlasEpilogue::bias_gradient_b},
    {"batch", false, false, BlasEpilogue::none, 3},
    {"batch with one A", false, false, BlasEpilogue::none, 3, true},
    {"batch plus C", true, false, BlasEpilogue::none, 2},
};

struct Size {
  int64_t m, n, k;
  int alignment;  // of pointers and leading dimensions, in bytes; 0: of an element
};
constexpr Size sizes[] = {{1, 1, 1, 0},    {3, 5, 7, 0},     {16, 8, 24, 16},
                          {33, 17, 65, 0}, {40, 24, 64, 16}, {9, 16, 200, 16}};

constexpr double gelu_linear = 0.7978845608028654, gelu_cubic = 0.044715;  // sqrt(2 / pi)
double gelu(double x) { return 0.5 * x * (1 + std::tanh(gelu_linear * (x + gelu_cubic * x * x * x))); }
double gelu_slope(double x) {
  const double t = std::tanh(gelu_linear * (x + gelu_cubic * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * gelu_linear * (1 + 3 * gelu_cubic * x * x);
}
constexpr double steepest_gelu = 1.13,
                 most_curved_gelu = 0.8;  // of |gelu'| and |gelu''|: both at their largest, rounded up

class Check {
 public:
  Check(DeviceSession& session, const Types& types, const Variant& variant, const Size& size, bool transpose_a,
        bool transpose_b)
      : session_(session), variant_(variant), size_(size), random_(size.m * 131 + size.n * 17 + size.k) {
    const int64_t unit = size.alignment == 0 ? 1 : size.alignment / static_cast<int64_t>(size_of(types.operands));
    const auto matrix = [&](DType type, int64_t rows, int64_t columns) {
      Operand x{type, rows, columns, (rows + unit) / unit * unit, 0, variant.batch, {}};
      if (variant.batch > 1) x.stride = (x.columns * x.ld + 2 * unit) / unit * unit;
      return x;
    };
    a_ = matrix(types.operands, transpose_a ? size.k : size.m, transpose_a ? size.m : size.k);
    if (variant.same_a) a_.stride = 0;
    b_ = matrix(types.operands, transpose_b ? size.n : size.k, transpose_b ? size.k : size.n);
    c_ = matrix(types.result, size.m, size.n);
    d_ = aux_ = c_;
    aux_.ld = (size.m + 7) / 8 * 8;
    bias_ = Operand{types.result, size.m, 1, size.m, 0, 1, {}};
    sums_ = Operand{types.result, variant.epilogue == BlasEpilogue::bias_gradient_a ? size.m : size.n, 1, 0, 0, 1, {}};
    for (Operand* x : {&a_, &b_, &c_, &aux_, &bias_}) x->fill(random_);
    for (Operand* x : {&d_, &sums_}) x->allocate();
    p_.m = size.m;
    p_.n = size.n;
    p_.k = size.k;
    p_.transpose_a = transpose_a;
    p_.transpose_b = transpose_b;
    p_.a = p_.b = types.operands;
    p_.c = p_.d = p_.bias_dtype = p_.bias_out_dtype = types.result;
    p_.lda = a_.ld;
    p_.ldb = b_.ld;
    p_.ldc = c_.ld;
    p_.ldd = d_.ld;
    p_.ldaux = aux_.ld;
    p_.batch = variant.batch;
    p_.stride_a = a_.stride;
    p_.stride_b = b_.stride;
    p_.stride_c = c_.stride;
    p_.stride_d = d_.stride;
    p_.add_c = variant.add_c;
    p_.bias = variant.bias;
    p_.epilogue = variant.epilogue;
    p_.alignment = size.alignment == 0 ? static_cast<int>(size_of(types.operands)) : size.alignment;
    what_ = std::string(types.name) + ", " + variant.name + ", " + std::to_string(size.m) + "x" +
            std::to_string(size.n) + "x" + std::to_string(size.k) + (transpose_a ? ", A transposed" : "") +
            (transpose_b ? ", B transposed" : "");
  }

  // False where the library has no algorithm.
  bool run() {
    const std::unique_ptr<Blas::Plan> plan = session_.blas().plan(p_, 32 << 20);
    if (!plan) return false;
    const std::vector<unsigned char> first = launch(*plan);
    compare();
    if (launch(*plan) != first) FAIL_CHECK(what_ << ": other bits the second time");
    session_.release();
    return true;
  }

 private:
  static bool reads_aux(BlasEpilogue e) { return e == BlasEpilogue::gelu_tanh_grad; }
  static bool writes_aux(BlasEpilogue e) { return e == BlasEpilogue::gelu_tanh_aux; }
  static bool writes_sums(BlasEpilogue e) {
    return e == BlasEpilogue::bias_gradient_a || e == BlasEpilogue::bias_gradient_b;
  }

  // All that is written, in one.
  std::vector<unsigned char> launch(const Blas::Plan& plan) {
    BlasOperands o;
    o.a = session_.to_device(a_.bytes);
    o.b = session_.to_device(b_.bytes);
    if (variant_.in_place)
      d_.bytes = c_.bytes;
    else
      d_.allocate();
    unsigned char* d = session_.to_device(d_.bytes);
    o.d = d;
    if (variant_.add_c) o.c = variant_.in_place ? d : session_.to_device(c_.bytes);
    if (variant_.bias) o.bias = session_.to_device(bias_.bytes);
    unsigned char *aux = nullptr, *sums = nullptr;
    if (writes_aux(variant_.epilogue)) aux_.allocate();
    if (writes_aux(variant_.epilogue) || reads_aux(variant_.epilogue)) o.aux = aux = session_.to_device(aux_.bytes);
    if (writes_sums(variant_.epilogue)) o.bias_out = sums = session_.to_device(sums_.bytes);
    if (plan.workspace_bytes() > 0) o.workspace = session_.allocate<unsigned char>(plan.workspace_bytes());
    plan.run(session_.stream(), o);
    d_.bytes = session_.to_host(d, d_.bytes.size());
    if (aux) aux_.bytes = session_.to_host(aux, aux_.bytes.size());
    if (sums) sums_.bytes = session_.to_host(sums, sums_.bytes.size());
    std::vector<unsigned char> all = d_.bytes;
    if (writes_aux(variant_.epilogue)) all.insert(all.end(), aux_.bytes.begin(), aux_.bytes.end());
    if (sums) all.insert(all.end(), sums_.bytes.begin(), sums_.bytes.end());
    return all;
  }

  void compare() {
    int64_t wrong = 0;
    const auto note = [&](const char* of, int64_t b, int64_t row, int64_t column, double found, double exact,
                          double error) {
      if (++wrong == 1)
        FAIL_CHECK(what_ << ": " << std::string(of) << "(" << row << ", " << column << ") of matrix " << b << ": found "
                         << found << ", exact " << exact << ", may be off by " << error);
    };
    for (int64_t b = 0; b < variant_.batch; ++b)
      for (int64_t j = 0; j < size_.n; ++j)
        for (int64_t i = 0; i < size_.m; ++i) {
          double exact = 0, size = 0;
          for (int64_t q = 0; q < size_.k; ++q) {
            const double term = a_at(b, i, q) * b_at(b, q, j);
            exact += term;
            size += std::fabs(term);
          }
          // Sums of k exact products in FP32 in any order, where also a double rounding may lie at each step.
          double error = static_cast<double>(size_.k + 1) * half_ulp * size;
          for (const double more : {variant_.add_c ? c_(b, i, j) : 0, variant_.bias ? bias_(0, i, 0) : 0}) {
            exact += more;
            error += half_ulp * (size += std::fabs(more));
          }
          const double tanh_error = tested_tanh_error();
          switch (variant_.epilogue) {
            case BlasEpilogue::none:
            case BlasEpilogue::bias_gradient_a:
            case BlasEpilogue::bias_gradient_b:
              break;
            case BlasEpilogue::relu:
              exact = std::max(exact, 0.0);
              break;
            case BlasEpilogue::gelu_tanh_aux:
              if (!is_within(aux_(b, i, j), exact, error, aux_.type)) note("aux", b, i, j, aux_(b, i, j), exact, error);
              [[fallthrough]];
            case BlasEpilogue::gelu_tanh:
              // tanh of an argument of 4 roundings, whose error tanh's slope times the argument keeps below one of
              // them; 4 more after it.
              error = steepest_gelu * error + 0.5 * std::fabs(exact) * (tanh_error + 8 * half_ulp);
              exact = gelu(exact);
              break;
            case BlasEpilogue::gelu_tanh_grad: {
              // The slope: tanh itself, and 1 - tanh^2 with twice its error, times the argument's own slope.
              const double x = aux_(b, i, j);
              const double inner = gelu_linear * (1 + 3 * gelu_cubic * x * x);
              const double slope_error = (0.5 + std::fabs(x) * inner) * (tanh_error + 8 * half_ulp);
              error = steepest_gelu * error + std::fabs(exact) * slope_error;
              exact *= gelu_slope(x);
              break;
            }
          }
          if (!is_within(d_(b, i, j), exact, error, d_.type)) note("D", b, i, j, d_(b, i, j), exact, error);
        }
    if (writes_sums(variant_.epilogue)) {
      const bool of_a = variant_.epilogue == BlasEpilogue::bias_gradient_a;
      for (int64_t s = 0; s < sums_.rows; ++s) {
        double exact = 0, size = 0;
        for (int64_t q = 0; q < size_.k; ++q) {
          const double term = of_a ? a_at(0, s, q) : b_at(0, q, s);
          exact += term;
          size += std::fabs(term);
        }
        const double error = static_cast<double>(size_.k) * half_ulp * size, found = sums_(0, s, 0);
        if (!is_within(found, exact, error, sums_.type)) note("sums", 0, s, 0, found, exact, error);
      }
    }
    // What lies between the columns of D and its matrices is as it was.
    std::vector<bool> written(static_cast<std::size_t>(d_.extent()), false);
    for (int64_t b = 0; b < variant_.batch; ++b)
      for (int64_t j = 0; j < size_.n; ++j)
        for (int64_t i = 0; i < size_.m; ++i) written[static_cast<std::size_t>(d_.at(b, i, j))] = true;
    for (int64_t e = 0; e < d_.extent(); ++e)
      if (!written[static_cast<std::size_t>(e)] && !std::isnan(number_at(d_.bytes, d_.type, e)))
        note("beside D", 0, e % d_.ld, e / d_.ld, number_at(d_.bytes, d_.type, e), NAN, 0);
  }

  double a_at(int64_t b, int64_t row, int64_t k) const { return p_.transpose_a ? a_(b, k, row) : a_(b, row, k); }
  double b_at(int64_t b, int64_t k, int64_t column) const {
    return p_.transpose_b ? b_(b, column, k) : b_(b, k, column);
  }

  DeviceSession& session_;
  const Variant& variant_;
  const Size& size_;
  std::mt19937_64 random_;
  Operand a_, b_, c_, d_, aux_, bias_, sums_;
  BlasProblem p_;
  std::string what_;
};

TEST_CASE("blas: every layout, type, size and epilogue, against loops in double") {
  DeviceSession session(make_tested_libraries());
  for (const Variant& variant : variants)
    for (const Types& types : all_types)
      for (const Size& size : sizes) {
        int taken = 0;
        for (const bool transpose_a : {false, true})
          for (const bool transpose_b : {false, true}) {
            const bool took = Check(session, types, variant, size, transpose_a, transpose_b).run();
            taken += took;
            // Everywhere there is an algorithm for the plain product; epilogues may want alignment.
            const bool plain = variant.epilogue == BlasEpilogue::none && !variant.bias;
            CHECK_MESSAGE((took || !plain),
                          "no algorithm: " << std::string(types.name) << ", " << std::string(variant.name));
          }
        if (size.alignment == 16 && taken == 0)
          MESSAGE("the library takes none: " << std::string(types.name) << ", " << std::string(variant.name));
      }
}

TEST_CASE("blas: what no library takes has no plan") {
  DeviceSession session(make_tested_libraries());
  BlasProblem p;
  p.m = p.n = p.k = p.lda = p.ldb = p.ldd = 16;
  CHECK(session.blas().plan(p, 0) != nullptr);
  p.a = DType::f16;  // and B in FP32
  CHECK(session.blas().plan(p, 0) == nullptr);
}

}  // namespace
}  // namespace mpt::test
