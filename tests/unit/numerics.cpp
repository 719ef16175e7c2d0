// The scalar functions that every backend shares: conversions bit by bit, mathematical functions against libm in double.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "kernels/numerics/elementwise.h"
#include "kernels/numerics/float16.h"

using namespace mpt;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

// binary16 read by its definition.
double value_of_half(uint16_t h) {
  const int exponent = h >> 10 & 31, fraction = h & 1023;
  double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  if (exponent == 31) magnitude = fraction == 0 ? std::numeric_limits<double>::infinity() : std::nan("");
  return h & 0x8000 ? -magnitude : magnitude;
}

// Rounds to the nearest of a format's numbers, ties to even: `digits` significant ones, none finer than 2^finest, and from
// `overflow` on infinity. Exact in double.
double round_to(double x, int digits, int finest, double overflow) {
  if (std::isnan(x) || std::isinf(x) || x == 0) return x;
  int exponent = 0;
  std::frexp(x, &exponent);
  const int place = std::max(exponent - digits, finest);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(x, -place)), place);
  return std::fabs(rounded) >= overflow ? std::copysign(std::numeric_limits<double>::infinity(), x) : rounded;
}

// A float's place in the order of all floats, so that a loop can pass through them.
int64_t order_of(float x) {
  const uint32_t bits = bits_of(x);
  return bits >> 31 ? -static_cast<int64_t>(bits & 0x7fffffffu) : static_cast<int64_t>(bits);
}
float at_order(int64_t k) {
  return float_of(k < 0 ? 0x80000000u | static_cast<uint32_t>(-k) : static_cast<uint32_t>(k));
}

// The largest error in units of the last place of the exact result, over every `stride`-th float in [low, high].
template <typename F, typename G>
double worst_error(F function, G exact, float low, float high, int64_t stride) {
  double worst = 0;
  for (int64_t k = order_of(low); k <= order_of(high); k += stride) {
    const float x = at_order(k);
    const double expected = exact(static_cast<double>(x));
    const float found = function(x);
    if (std::fabs(expected) >= 0x1.ffffffp127) {
      if (!std::isinf(found) || (found > 0) != (expected > 0)) return infinity;
      continue;
    }
    int exponent = 0;
    std::frexp(static_cast<float>(expected), &exponent);
    const double place = std::ldexp(1.0, std::max(exponent - 24, -149));
    const double error = std::fabs(found - expected) / place;
    if (!(error <= worst)) worst = std::isnan(error) ? infinity : error;
  }
  return worst;
}

double exact_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double exact_density(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * std::acos(-1.0)); }
double exact_sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

bool same(float a, float b) { return bits_of(a) == bits_of(b) || (std::isnan(a) && std::isnan(b)); }

}  // namespace

TEST_CASE("half: every binary16 number widens to its value and narrows back to its bits") {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const auto half = static_cast<uint16_t>(h);
    const float wide = f16_to_f32(half);
    const double expected = value_of_half(half);
    if (std::isnan(expected)) {
      CHECK(std::isnan(wide));
      CHECK(f32_to_f16(wide) == (half | 0x200));  // quiet, the rest of it kept
    } else {
      REQUIRE(static_cast<double>(wide) == expected);
      REQUIRE(std::signbit(wide) == std::signbit(expected));
      REQUIRE(f32_to_f16(wide) == half);
    }
  }
}

TEST_CASE("half: between two neighbours the nearer one, at the middle the even one") {
  for (uint32_t h = 0; h < 0x7c00; ++h) {
    const auto lower = static_cast<uint16_t>(h), upper = static_cast<uint16_t>(h + 1);
    // Above the largest finite number stands 65536, which is written as infinity.
    const double a = value_of_half(lower), b = h == 0x7bff ? 65536 : value_of_half(upper);
    const auto middle = static_cast<float>((a + b) / 2);  // exact: 12 digits
    const float below = std::nextafter(middle, 0.0f), above = std::nextafter(middle, infinity);
    const uint16_t even = h % 2 == 0 ? lower : upper;
    REQUIRE(f32_to_f16(middle) == even);
    REQUIRE(f32_to_f16(below) == lower);
    REQUIRE(f32_to_f16(above) == upper);
    REQUIRE(f32_to_f16(-middle) == (even | 0x8000));
    REQUIRE(f32_to_f16(-below) == (lower | 0x8000));
    REQUIRE(f32_to_f16(-above) == (upper | 0x8000));
  }
}

TEST_CASE("half and bfloat16: rounding of any float by the formats' definitions") {
  std::mt19937 random(11);
  for (int i = 0; i < 2000000; ++i) {
    const float x = float_of(static_cast<uint32_t>(random()));
    const float half = f16_to_f32(f32_to_f16(x)), bfloat = bf16_to_f32(f32_to_bf16(x));
    REQUIRE(same(half, static_cast<float>(round_to(x, 11, -24, 65536))));
    REQUIRE(same(bfloat, static_cast<float>(round_to(x, 8, -133, 0x1p128))));
  }
  for (float x : {infinity, -infinity, 0.0f, -0.0f, 65519.996f, 65520.0f, 0x1.fep127f, 0x1.fefffep127f, 0x1.ffp127f}) {
    REQUIRE(same(f16_to_f32(f32_to_f16(x)), static_cast<float>(round_to(x, 11, -24, 65536))));
    REQUIRE(same(bf16_to_f32(f32_to_bf16(x)), static_cast<float>(round_to(x, 8, -133, 0x1p128))));
  }
  CHECK(std::isnan(f16_to_f32(f32_to_f16(not_a_number))));
  CHECK(std::isnan(bf16_to_f32(f32_to_bf16(not_a_number))));
  CHECK(std::isnan(bf16_to_f32(f32_to_bf16(float_of(0x7f800001)))));  // all of its mark is in the bits that go
}

TEST_CASE("bfloat16: every number widens and narrows back") {
  for (uint32_t b = 0; b < 0x10000; ++b) {
    const float wide = bf16_to_f32(static_cast<uint16_t>(b));
    REQUIRE(bits_of(wide) == b << 16);
    REQUIRE(f32_to_bf16(wide) == (std::isnan(wide) ? (b | 0x40) : b));
  }
}

TEST_CASE("fused multiply-add rounds once, with or without an instruction for it") {
  std::mt19937 random(3);
  for (int i = 0; i < 3000000; ++i) {
    uint32_t a = static_cast<uint32_t>(random()), b = static_cast<uint32_t>(random()),
             c = static_cast<uint32_t>(random());
    if (i % 2 == 0) {
      // The addend near the product, where cancellation and ties happen.
      b = (b & 0x807fffffu) | 0x3f800000u;
      const uint32_t exponent = ((a >> 23) + random() % 60 - 30) & 255;
      c = (c & 0x807fffffu) | exponent << 23;
    }
    if (i % 8 == 0) a &= 0xfffff000u, b &= 0xfffff000u;
    const float found = fused_multiply_add(float_of(a), float_of(b), float_of(c));
    REQUIRE(same(found, std::fma(float_of(a), float_of(b), float_of(c))));
  }
}

TEST_CASE("mathematical functions are as close as kernels/numerics/math.h says") {
  // Functions that are always inlined cannot be called by pointer in a build without optimisation.
  const auto our_exp = [](float x) { return exp_f32(x); };
  const auto our_log = [](float x) { return log_f32(x); };
  const auto our_log1p = [](float x) { return log1p_f32(x); };
  const auto our_tanh = [](float x) { return tanh_f32(x); };
  const auto our_erf = [](float x) { return erf_f32(x); };
  // Strides are prime, so that the fraction's low bits vary.
  CHECK(worst_error(
            our_exp, [](double x) { return std::exp(x); }, -110, 95, 997) <= 1);
  CHECK(worst_error(
            our_log, [](double x) { return std::log(x); }, 0x1p-149f, 0x1.fffffep127f, 1009) <= 1);
  CHECK(worst_error(
            our_log, [](double x) { return std::log(x); }, 0.5f, 2, 11) <= 1);
  CHECK(worst_error(
            our_log1p, [](double x) { return std::log1p(x); }, -0x1.fffffep-1f, 0x1.fffffep127f, 1013) <= 1.5);
  CHECK(worst_error(
            our_log1p, [](double x) { return std::log1p(x); }, 0.25f, 1, 11) <= 1.5);
  CHECK(worst_error(
            our_tanh, [](double x) { return std::tanh(x); }, -20, 20, 1009) <= 1.5);
  CHECK(worst_error(
            our_tanh, [](double x) { return std::tanh(x); }, 0.25f, 2, 11) <= 1.5);
  CHECK(worst_error(
            our_erf, [](double x) { return std::erf(x); }, -10, 10, 1009) <= 2);
  CHECK(worst_error(
            our_erf, [](double x) { return std::erf(x); }, 0.5f, 4, 23) <= 2);
  CHECK(worst_error(sigmoid, exact_sigmoid, -110, 110, 1009) <= 3);
  CHECK(worst_error(normal_cdf, exact_cdf, 0, 20, 1009) <= 2.5);
  CHECK(worst_error(normal_cdf, exact_cdf, -15, 0, 1009) <= 6.5);
}

TEST_CASE("mathematical functions at special values") {
  CHECK(same(exp_f32(infinity), infinity));
  CHECK(same(exp_f32(-infinity), 0));
  CHECK(same(exp_f32(0), 1));
  CHECK(same(log_f32(0), -infinity));
  CHECK(same(log_f32(-0.0f), -infinity));
  CHECK(same(log_f32(1), 0));
  CHECK(same(log_f32(infinity), infinity));
  CHECK(same(log1p_f32(-1), -infinity));
  CHECK(same(log1p_f32(0), 0));
  CHECK(same(log1p_f32(infinity), infinity));
  CHECK(same(tanh_f32(infinity), 1));
  CHECK(same(tanh_f32(-infinity), -1));
  CHECK(same(tanh_f32(-0.0f), -0.0f));
  CHECK(same(erf_f32(infinity), 1));
  CHECK(same(erf_f32(-infinity), -1));
  CHECK(same(erf_f32(-0.0f), -0.0f));
  CHECK(same(sigmoid(infinity), 1));
  CHECK(same(sigmoid(-infinity), 0));
  CHECK(same(normal_cdf(infinity), 1));
  CHECK(same(normal_cdf(-infinity), 0));
  for (auto f :
       {+[](float x) { return exp_f32(x); }, +[](float x) { return log_f32(x); }, +[](float x) { return log1p_f32(x); },
        +[](float x) { return tanh_f32(x); }, +[](float x) { return erf_f32(x); }, +[](float x) { return sigmoid(x); },
        +[](float x) { return normal_cdf(x); }})
    CHECK(std::isnan(f(not_a_number)));
  CHECK(std::isnan(log_f32(-1)));
  CHECK(std::isnan(log_f32(-infinity)));
  CHECK(std::isnan(log1p_f32(-2)));
  // The smallest numbers go through unchanged.
  CHECK(same(tanh_f32(0x1p-149f), 0x1p-149f));
  CHECK(same(log1p_f32(-0x1p-149f), -0x1p-149f));
}

namespace {

// Of the functions: relative to the terms they are made of, `units` of 2^-24 allowed.
template <typename Exact>
void check_function(Ewise op, float p, float q, double units, float low, float high, Exact exact) {
  CAPTURE(static_cast<int>(op));
  std::mt19937 random(static_cast<unsigned>(op) + 1);
  std::uniform_real_distribution<float> uniform(low, high);
  for (int i = 0; i < 20000; ++i) {
    const float a = uniform(random), b = uniform(random);
    double size = 0;
    const double expected = exact(static_cast<double>(a), static_cast<double>(b), &size);
    const float found = apply(op, a, b, p, q);
    if (!(std::fabs(found - expected) <= units * 0x1p-24 * size + 0x1p-149)) {
      CAPTURE(a);
      CAPTURE(b);
      CHECK(found == expected);
      return;
    }
  }
}

template <typename F>
auto plain(F f) {
  return [f](double a, double b, double* size) { return *size = std::fabs(f(a, b)), f(a, b); };
}

}  // namespace

// Bounds count the roundings: 1 unit is half a place, an error of math.h of e places is 2 e units, and so on through products.
TEST_CASE("element-wise functions against double") {
  check_function(Ewise::copy, 0, 0, 0, -5, 5, plain([](double a, double) { return a; }));
  check_function(Ewise::scale, 0.75f, -2, 1, -5, 5, plain([](double a, double) { return 0.75 * a - 2; }));
  check_function(Ewise::relu, 0, 0, 0, -5, 5, plain([](double a, double) { return std::max(a, 0.0); }));
  check_function(Ewise::leaky_relu, 0.25f, 0, 1, -5, 5, plain([](double a, double) { return a > 0 ? a : 0.25 * a; }));
  check_function(Ewise::gelu, 0, 0, 14, -8, 8, plain([](double a, double) { return a * exact_cdf(a); }));
  // The argument of the exponential function, up to 2 u = 23 here, is rounded three times: that many units more.
  const double tanh_argument = 3 * 23;
  const auto inner = [](double x) { return 2 * std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x); };
  const auto inner_slope = [](double x) { return 2 * std::sqrt(2 / std::acos(-1.0)) * (1 + 3 * 0.044715 * x * x); };
  check_function(Ewise::gelu_tanh, 0, 0, 7 + tanh_argument, -5, 5,
                 plain([=](double a, double) { return a * exact_sigmoid(inner(a)); }));
  check_function(Ewise::silu, 0, 0, 7, -20, 20, plain([](double a, double) { return a * exact_sigmoid(a); }));
  check_function(Ewise::sigmoid, 0, 0, 6, -20, 20, plain([](double a, double) { return exact_sigmoid(a); }));
  check_function(Ewise::tanh, 0, 0, 3, -5, 5, plain([](double a, double) { return std::tanh(a); }));
  check_function(Ewise::exp, 0, 0, 2, -20, 20, plain([](double a, double) { return std::exp(a); }));
  check_function(Ewise::log, 0, 0, 2, 0.001f, 20, plain([](double a, double) { return std::log(a); }));
  check_function(Ewise::sqrt, 0, 0, 1, 0, 20, plain([](double a, double) { return std::sqrt(a); }));
  check_function(Ewise::square, 0, 0, 1, -5, 5, plain([](double a, double) { return a * a; }));
  check_function(Ewise::clamp, -1, 2, 0, -5, 5,
                 plain([](double a, double) { return std::min(std::max(a, -1.0), 2.0); }));
  check_function(Ewise::dropout, 0.25f, 0, 3, 0, 1, plain([](double a, double b) { return b < 0.25 ? 0 : a / 0.75; }));
  check_function(Ewise::add, 0, 0, 1, -5, 5, plain([](double a, double b) { return a + b; }));
  check_function(Ewise::sub, 0, 0, 1, -5, 5, plain([](double a, double b) { return a - b; }));
  check_function(Ewise::mul, 0, 0, 1, -5, 5, plain([](double a, double b) { return a * b; }));
  check_function(Ewise::div, 0, 0, 1, 0.1f, 5, plain([](double a, double b) { return a / b; }));
  check_function(Ewise::relu_grad, 0, 0, 0, -5, 5, plain([](double a, double b) { return b > 0 ? a : 0; }));
  check_function(Ewise::leaky_relu_grad, 0.25f, 0, 1, -5, 5,
                 plain([](double a, double b) { return b > 0 ? a : 0.25 * a; }));
  // Sums of two terms cancel: the error is relative to their sizes.
  check_function(Ewise::gelu_grad, 0, 0, 16, -8, 8, [](double a, double b, double* size) {
    *size = std::fabs(a) * (exact_cdf(b) + std::fabs(b) * exact_density(b));
    return a * (exact_cdf(b) + b * exact_density(b));
  });
  check_function(Ewise::gelu_tanh_grad, 0, 0, 16 + tanh_argument, -5, 5, [=](double a, double b, double* size) {
    const double s = exact_sigmoid(inner(b)), other = exact_sigmoid(-inner(b)), term = b * inner_slope(b) * s * other;
    *size = std::fabs(a) * (s + std::fabs(term));
    return a * (s + term);
  });
  check_function(Ewise::silu_grad, 0, 0, 16, -20, 20, [](double a, double b, double* size) {
    const double s = exact_sigmoid(b), term = b * s * exact_sigmoid(-b);
    *size = std::fabs(a) * (s + std::fabs(term));
    return a * (s + term);
  });
  check_function(Ewise::sigmoid_grad, 0, 0, 3, 0, 1, plain([](double a, double b) { return a * b * (1 - b); }));
  check_function(Ewise::tanh_grad, 0, 0, 2, -1, 1, plain([](double a, double b) { return a * (1 - b * b); }));
  check_function(Ewise::log_grad, 0, 0, 1, 0.1f, 5, plain([](double a, double b) { return a / b; }));
  check_function(Ewise::sqrt_grad, 0, 0, 1, 0.1f, 5, plain([](double a, double b) { return a / (2 * b); }));
  check_function(Ewise::square_grad, 0, 0, 1, -5, 5, plain([](double a, double b) { return 2 * a * b; }));
  check_function(Ewise::clamp_grad, -1, 2, 0, -5, 5,
                 plain([](double a, double b) { return b >= -1 && b <= 2 ? a : 0; }));
}

TEST_CASE("element-wise functions let NaN through and keep the ends") {
  for (int op = 0; op < static_cast<int>(Ewise::count_); ++op) {
    CAPTURE(op);
    const auto kind = static_cast<Ewise>(op);
    CHECK(std::isnan(apply(kind, not_a_number, 0.5f, 0.25f, 1)));
  }
  CHECK(scalar::clamp_grad(3, -1, -1, 2) == 3);
  CHECK(scalar::clamp_grad(3, 2, -1, 2) == 3);
  CHECK(scalar::clamp_grad(3, 2.5f, -1, 2) == 0);
  CHECK(scalar::relu_grad(3, 0) == 0);
  CHECK(scalar::gelu_tanh_grad(1, 1e30f) == 1);
  CHECK(scalar::gelu_tanh_grad(1, -1e30f) == 0);
}
