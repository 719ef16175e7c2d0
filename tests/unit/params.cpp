// The parameter store: layout, initial values, conversion, the state of gradients.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "kernels/numerics/float16.h"
#include "runtime/params.h"

using namespace mpt;

namespace {

// Counts what is allocated.
struct Ledger {
  uint64_t bytes = 0;
  static void* allocate(void* user, uint64_t bytes, uint64_t alignment) {
    static_cast<Ledger*>(user)->bytes += bytes;
    return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  }
  static void deallocate(void* user, void* pointer, uint64_t bytes) {
    static_cast<Ledger*>(user)->bytes -= bytes;
    std::free(pointer);
  }
};

std::shared_ptr<Backend> cpu(Ledger* ledger = nullptr) {
  BackendOptions o;
  o.threads = 2;
  if (ledger != nullptr) {
    o.allocate = Ledger::allocate;
    o.deallocate = Ledger::deallocate;
    o.user = ledger;
  }
  return make_cpu_backend(o);
}

InitializerInfo init(mpt_initializer kind, double a = 0, double b = 1) {
  InitializerInfo info;
  info.kind = kind;
  info.a = a;
  info.b = b;
  return info;
}

ParamsConfig config(mpt_precision precision) {
  ParamsConfig c;
  c.precision = precision;
  c.seed = 7;
  return c;
}

mpt_array array_of(void* data, mpt_dtype dtype, std::initializer_list<int64_t> shape) {
  mpt_array a{};
  a.data = data;
  a.dtype = dtype;
  for (int64_t size : shape) a.shape[a.rank++] = size;
  return a;
}

std::vector<float> masters(const Params& p, int32_t slot) {
  std::vector<float> values(static_cast<std::size_t>(p.parameter(slot).count));
  p.read_master(slot, values.data());
  return values;
}

mpt_status status_of(void (*call)(Params&), Params& p) {
  try {
    call(p);
  } catch (const Error& e) {
    return e.status();
  }
  return MPT_OK;
}

mpt_scaler_options static_scale(double scale) {
  mpt_scaler_options o = Scaler::off_options();
  o.mode = MPT_SCALER_STATIC;
  o.initial_scale = scale;
  return o;
}

}  // namespace

TEST_CASE("planned bytes are what is allocated, padded to 64 bytes a tensor") {
  const struct {
    mpt_precision precision;
    bool no_master, accumulate;
    ParamsBytes expected;
  } cases[] = {
      // 'w' has 33 elements, 'scale' 3 and stays FP32.
      {MPT_PRECISION_FP32, false, false, {192 + 64, 0, 192 + 64}},
      {MPT_PRECISION_FP16, false, false, {192 + 64, 128, 128 + 64}},
      {MPT_PRECISION_BF16, false, true, {192 + 64, 128, 192 + 64}},
      {MPT_PRECISION_FP16, true, false, {64, 128, 128 + 64}},
  };
  for (const auto& c : cases) {
    Ledger ledger;
    {
      ParamsConfig conf = config(c.precision);
      conf.no_master = c.no_master;
      Params p(cpu(&ledger), conf);
      p.add("w", {3, 11}, init(MPT_INIT_NORMAL), false);
      p.add("scale", {3}, init(MPT_INIT_CONSTANT, 1), true);
      if (c.accumulate) p.require_fp32_gradients();
      const ParamsBytes planned = p.planned_bytes();
      CHECK(planned.master == c.expected.master);
      CHECK(planned.copy16 == c.expected.copy16);
      CHECK(planned.gradients == c.expected.gradients);
      CHECK(ledger.bytes == 0);
      p.allocate();
      CHECK(ledger.bytes == planned.master + planned.copy16 + planned.gradients);
    }
    CHECK(ledger.bytes == 0);
  }
}

TEST_CASE("in fp32 there is no second copy; in fp16 the copy is the rounded master") {
  Params full(cpu(), config(MPT_PRECISION_FP32));
  full.add("w", {100}, init(MPT_INIT_NORMAL), false);
  full.allocate();
  CHECK(full.data(0, Part::copy) == full.data(0, Part::master));

  Params half(cpu(), config(MPT_PRECISION_FP16));
  half.add("w", {100}, init(MPT_INIT_NORMAL), false);
  half.add("kept", {4}, init(MPT_INIT_CONSTANT, 1), true);
  half.allocate();
  const std::vector<float> w = masters(half, 0);
  CHECK(w == masters(full, 0));  // the same in every precision
  for (int i = 0; i < 100; ++i) CHECK(static_cast<uint16_t*>(half.data(0, Part::copy))[i] == f32_to_f16(w[i]));
  CHECK(half.data(1, Part::copy) == half.data(1, Part::master));
  CHECK(half.dtype(1, Part::gradient) == DType::f32);
  CHECK(half.dtype(0, Part::gradient) == DType::f16);
}

TEST_CASE("initial values depend on seed and name, not on the order of parameters") {
  Params a(cpu(), config(MPT_PRECISION_FP32)), b(cpu(), config(MPT_PRECISION_FP32));
  ParamsConfig other_seed = config(MPT_PRECISION_FP32);
  other_seed.seed = 8;
  Params c(cpu(), other_seed);
  a.add("x", {50}, init(MPT_INIT_NORMAL), false);
  a.add("y", {50}, init(MPT_INIT_NORMAL), false);
  b.add("y", {50}, init(MPT_INIT_NORMAL), false);
  b.add("x", {50}, init(MPT_INIT_NORMAL), false);
  c.add("x", {50}, init(MPT_INIT_NORMAL), false);
  for (Params* p : {&a, &b, &c}) p->allocate();
  CHECK(masters(a, 0) == masters(b, 1));
  CHECK(masters(a, 1) == masters(b, 0));
  CHECK(masters(a, 0) != masters(a, 1));
  CHECK(masters(a, 0) != masters(c, 0));
}

TEST_CASE("initialisers have the distribution they name") {
  constexpr int64_t n = 40000;  // 200 x 200: fan_in = fan_out = 200
  const struct {
    InitializerInfo info;
    double mean, deviation, low, high;
  } cases[] = {
      {init(MPT_INIT_ZEROS), 0, 0, 0, 0},
      {init(MPT_INIT_CONSTANT, 2.5), 2.5, 0, 2.5, 2.5},
      {init(MPT_INIT_NORMAL, 1, 0.5), 1, 0.5, -3, 5},
      {init(MPT_INIT_UNIFORM, -1, 3), 1, 4 / std::sqrt(12.0), -1, 3},
      {init(MPT_INIT_XAVIER_UNIFORM, 2), 0, 2 * std::sqrt(2.0 / 400), -2 * std::sqrt(6.0 / 400),
       2 * std::sqrt(6.0 / 400)},
      {init(MPT_INIT_XAVIER_NORMAL, 1), 0, std::sqrt(2.0 / 400), -1, 1},
      {init(MPT_INIT_KAIMING_UNIFORM, 1), 0, std::sqrt(1.0 / 200), -std::sqrt(3.0 / 200), std::sqrt(3.0 / 200)},
      {init(MPT_INIT_KAIMING_NORMAL, 1), 0, std::sqrt(1.0 / 200), -1, 1},
      // A normal distribution cut at two deviations has 0.8796 of the deviation left.
      {init(MPT_INIT_TRUNCATED_NORMAL, 1, 0.5), 1, 0.5 * 0.87963, 0, 2},
  };
  for (const auto& c : cases) {
    Parameter p;
    p.name = "w";
    p.shape = {200, 200};
    p.initializer = c.info;
    set_fans(p.shape, &p.initializer);
    std::vector<float> v(n);
    initial_values(p, 1, 0, n, v.data());
    double sum = 0, squares = 0;
    for (float x : v) sum += x;
    CHECK(*std::min_element(v.begin(), v.end()) >= static_cast<float>(c.low));
    CHECK(*std::max_element(v.begin(), v.end()) <= static_cast<float>(c.high));
    const double mean = sum / n;
    for (float x : v) squares += (x - mean) * (x - mean);
    const double deviation = std::sqrt(squares / n);
    // Five standard errors: d / sqrt(n) of the mean, at most d / sqrt(2 n) of the deviation.
    CHECK(std::fabs(mean - c.mean) <= 5 * c.deviation / std::sqrt(n) + 1e-7);
    CHECK(std::fabs(deviation - c.deviation) <= 5 * c.deviation / std::sqrt(2.0 * n) + 1e-7);
    // Any part of the tensor can be made alone.
    std::vector<float> part(10);
    initial_values(p, 1, 1003, 10, part.data());
    CHECK(std::memcmp(part.data(), v.data() + 1003, 40) == 0);
  }
}

TEST_CASE("fans follow PyTorch's rule") {
  InitializerInfo info;
  set_fans({8, 3, 5, 5}, &info);
  CHECK(info.fan_in == 75);
  CHECK(info.fan_out == 200);
}

TEST_CASE("values are set and got with conversion and strides") {
  Params p(cpu(), config(MPT_PRECISION_FP16));
  p.add("w", {2, 3}, init(MPT_INIT_ZEROS), false);
  p.allocate();
  double transposed[] = {1, 4, 2, 5, 3, 6.1};  // column by column
  mpt_array in = array_of(transposed, MPT_FLOAT64, {2, 3});
  in.strides[0] = 1;
  in.strides[1] = 2;
  p.set(0, in, "test");
  const std::vector<float> expected = {1, 2, 3, 4, 5, 6.1f};
  CHECK(masters(p, 0) == expected);
  CHECK(static_cast<uint16_t*>(p.data(0, Part::copy))[5] == f32_to_f16(6.1f));
  uint16_t out[6];
  p.get(0, Part::master, array_of(out, MPT_BFLOAT16, {2, 3}), "test");
  CHECK(out[5] == f32_to_bf16(6.1f));
  float copy[6];
  p.get(0, Part::copy, array_of(copy, MPT_FLOAT32, {2, 3}), "test");
  CHECK(copy[5] == f16_to_f32(f32_to_f16(6.1f)));
}

TEST_CASE("bad values are refused and nothing is changed") {
  ParamsConfig c = config(MPT_PRECISION_FP16);
  c.no_master = true;
  Params p(cpu(), c);
  p.add("w", {3}, init(MPT_INIT_CONSTANT, 5), false);
  p.allocate();
  const std::vector<float> before = masters(p, 0);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 65520.0f}) {
    float values[] = {1, 2, bad};
    CHECK_THROWS_AS(p.set(0, array_of(values, MPT_FLOAT32, {3}), "test"), Error);
    CHECK(masters(p, 0) == before);
  }
  float values[] = {1, 2, 65519.0f};
  CHECK_THROWS_AS(p.set(0, array_of(values, MPT_FLOAT32, {1, 3}), "test"), Error);
  CHECK_THROWS_AS(p.set(0, array_of(values, MPT_INT32, {3}), "test"), Error);
  p.set(0, array_of(values, MPT_FLOAT32, {3}), "test");
  CHECK(masters(p, 0)[2] == 65504);
}

TEST_CASE("registration: names are unique, sizes positive, nothing after allocation") {
  Params p(cpu(), config(MPT_PRECISION_FP16));
  p.add("w", {3}, init(MPT_INIT_ZEROS), false);
  CHECK_THROWS_AS(p.add("w", {3}, init(MPT_INIT_ZEROS), false), Error);
  CHECK_THROWS_AS(p.add("", {3}, init(MPT_INIT_ZEROS), false), Error);
  CHECK_THROWS_AS(p.add("z", {0}, init(MPT_INIT_ZEROS), false), Error);
  CHECK_THROWS_AS(p.add("mpt.x", {3}, init(MPT_INIT_ZEROS), false), Error);
  CHECK_THROWS_AS(p.add("u", {3}, init(MPT_INIT_UNIFORM, 2, 1), false), Error);
  CHECK_THROWS_AS(p.add("n", {3}, init(MPT_INIT_NORMAL, 0, NAN), false), Error);
  CHECK(p.count() == 1);
  p.allocate();
  CHECK(status_of([](Params& q) { q.allocate(); }, p) == MPT_ERROR_INVALID_STATE);
  CHECK(status_of([](Params& q) { q.add("b", {1}, init(MPT_INIT_ZEROS), false); }, p) == MPT_ERROR_INVALID_STATE);
}

TEST_CASE("buffers of the caller's are used and not counted") {
  Ledger ledger;
  Params p(cpu(&ledger), config(MPT_PRECISION_FP16));
  p.add("w", {40}, init(MPT_INIT_CONSTANT, 3), false);
  p.add("kept", {4}, init(MPT_INIT_ZEROS), true);
  uint16_t copy[40], gradient[40];
  p.use_buffers(0, copy, gradient);
  float other[4];
  CHECK_THROWS_AS(p.use_buffers(1, other, nullptr), Error);
  p.allocate();
  CHECK(ledger.bytes == 192 + 64 + 64);
  CHECK(p.data(0, Part::copy) == copy);
  CHECK(p.data(0, Part::gradient) == gradient);
  CHECK(copy[39] == f32_to_f16(3));
  // The caller's 16-bit gradients cannot become FP32.
  CHECK(status_of([](Params& q) { q.require_fp32_gradients(); }, p) == MPT_ERROR_INVALID_STATE);
  CHECK(p.dtype(0, Part::gradient) == DType::f16);
}

TEST_CASE("gradients turn FP32 when they are to be accumulated") {
  Params p(cpu(), config(MPT_PRECISION_FP16));
  p.add("w", {40}, init(MPT_INIT_ZEROS), false);
  p.allocate();
  const uint64_t layout = p.layout();
  p.require_fp32_gradients();
  CHECK(p.layout() != layout);
  CHECK(p.dtype(0, Part::gradient) == DType::f32);
  CHECK(p.planned_bytes().gradients == 192);
}

TEST_CASE("gradients are got divided by the scale they carry") {
  Params p(cpu(), config(MPT_PRECISION_FP16));
  p.add("w", {2}, init(MPT_INIT_ZEROS), false);
  p.allocate();
  Scaler scaler(static_scale(1024));
  p.begin_gradients(&scaler);
  auto* g = static_cast<uint16_t*>(p.data(0, Part::gradient));
  g[0] = f32_to_f16(512);
  g[1] = f32_to_f16(0x1p-14f);
  float out[2];
  p.get(0, Part::gradient, array_of(out, MPT_FLOAT32, {2}), "test");
  CHECK(out[0] == 0.5f);
  CHECK(out[1] == 0x1p-24f);
  CHECK(status_of([](Params& q) { q.unscale_gradients(Scaler(static_scale(1024)), "test"); }, p) ==
        MPT_ERROR_INVALID_STATE);
}

TEST_CASE("gradients are unscaled once, with the scale of their backward pass") {
  ParamsConfig c = config(MPT_PRECISION_FP16);
  c.gradient_dtype = MPT_FLOAT32;
  Params p(cpu(), c);
  p.add("w", {2}, init(MPT_INIT_ZEROS), false);
  p.allocate();
  mpt_scaler_options o = static_scale(8);
  Scaler scaler(o);
  const auto unscale = [&] {
    try {
      p.unscale_gradients(scaler, "test");
    } catch (const Error& e) {
      return e.status();
    }
    return mpt_status{MPT_OK};
  };
  CHECK(unscale() == MPT_ERROR_INVALID_STATE);  // nothing there
  p.begin_gradients(&scaler);
  auto* g = static_cast<float*>(p.data(0, Part::gradient));
  g[0] = 24;
  CHECK(unscale() == MPT_OK);
  CHECK(g[0] == 3);
  CHECK(unscale() == MPT_ERROR_INVALID_STATE);  // a second time
  CHECK(g[0] == 3);
  p.begin_gradients(&scaler);
  scaler.commit(scaler.change(false, true));
  CHECK(unscale() == MPT_ERROR_INVALID_STATE);  // the scale may have changed
  Params narrow(cpu(), config(MPT_PRECISION_FP16));
  narrow.add("w", {2}, init(MPT_INIT_ZEROS), false);
  narrow.allocate();
  narrow.begin_gradients(&scaler);
  try {
    narrow.unscale_gradients(scaler, "test");
    FAIL("expected an error");
  } catch (const Error& e) {
    CHECK(e.status() == MPT_ERROR_UNSUPPORTED);
  }
}

TEST_CASE("a device that executes nothing plans all the same") {
  Params p(std::shared_ptr<Backend>(make_null_backend(make_cpu_backend({}))), config(MPT_PRECISION_FP16));
  p.add("huge", {1000000, 1000000}, init(MPT_INIT_NORMAL), false);
  p.allocate();
  CHECK(p.planned_bytes().master == 4'000'000'000'000);
}
