// A step as a transaction: what may change, when, and what others got wrong. The formulas are tested against optax in
// tests/known_answers/optimizers.cpp.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "kernels/numerics/float16.h"
#include "runtime/optimizer.h"

using namespace mpt;

namespace {

constexpr double nan64 = std::numeric_limits<double>::quiet_NaN();
constexpr double inf64 = std::numeric_limits<double>::infinity();
const mpt_optimizer_kind all_kinds[] = {MPT_SGD, MPT_ADAM, MPT_ADAMW, MPT_LAMB, MPT_ADAGRAD, MPT_NOVOGRAD, MPT_LION};

mpt_optimizer_options options_of(mpt_optimizer_kind kind) {
  mpt_optimizer_options o = Optimizer::default_options(kind, "test");
  if (kind == MPT_SGD) o.momentum = 0.9;
  return o;
}

mpt_optimizer_options plain_sgd(double learning_rate) {
  mpt_optimizer_options o = Optimizer::default_options(MPT_SGD, "test");
  o.learning_rate = learning_rate;
  return o;
}

mpt_scaler_options scaler_options(int32_t mode = MPT_SCALER_DYNAMIC) {
  mpt_scaler_options o = Scaler::off_options();
  o.mode = mode;
  o.initial_scale = 65536;
  o.max_scale = 16777216;
  return o;
}

// A store of "a" (20000 elements: more than one piece), "b" (37) and "norm" (5, FP32), with an optimizer.
struct Training {
  explicit Training(mpt_precision precision, const mpt_optimizer_options& options, int threads = 2,
                    bool no_master = false) {
    BackendOptions backend;
    backend.threads = threads;
    ParamsConfig config;
    config.precision = precision;
    config.no_master = no_master;
    config.seed = 3;
    config.log = [this](int32_t, const char* text) { told = text; };
    params = std::make_shared<Params>(make_cpu_backend(backend), config);
    InitializerInfo normal;
    normal.kind = MPT_INIT_NORMAL;
    params->add("a", {200, 100}, normal, false);
    params->add("b", {37}, normal, false);
    params->add("norm", {5}, normal, true);
    params->allocate();
    optimizer = std::make_unique<Optimizer>(params, options);
  }

  void set_gradient(int32_t slot, int64_t element, double value) {
    void* data = params->data(slot, Part::gradient);
    const auto x = static_cast<float>(value);
    switch (params->dtype(slot, Part::gradient)) {
      case DType::f16:
        static_cast<uint16_t*>(data)[element] = f32_to_f16(x);
        break;
      case DType::bf16:
        static_cast<uint16_t*>(data)[element] = f32_to_bf16(x);
        break;
      default:
        static_cast<float*>(data)[element] = x;
    }
  }
  // Gradients about 1/100 that differ from element to element and step to step.
  void set_gradients(double scale, int step = 0) {
    for (int32_t slot = 0; slot < 3; ++slot)
      for (int64_t i = 0; i < params->parameter(slot).count; ++i)
        set_gradient(slot, i, scale * 0.01 * std::sin(1.0 + 0.37 * static_cast<double>(i) + slot + 2.1 * step));
  }
  mpt_step_result step(Scaler* scaler) {
    mpt_step_result result{};
    optimizer->step(scaler, &result);
    return result;
  }
  mpt_step_result train(Scaler& scaler, int number) {
    params->begin_gradients(&scaler);
    set_gradients(scaler.scale(), number);
    return step(&scaler);
  }
  std::vector<float> weights(int32_t slot) const {
    std::vector<float> w(static_cast<std::size_t>(params->parameter(slot).count));
    params->read_master(slot, w.data());
    return w;
  }
  void set_weights(int32_t slot, float value) {
    const std::vector<float> w(static_cast<std::size_t>(params->parameter(slot).count), value);
    params->write_master(slot, w.data());
  }
  // Every bit that training may change, but for the scaler's.
  std::string everything() const {
    std::string bytes;
    const auto add = [&](const void* data, std::size_t n) { bytes.append(static_cast<const char*>(data), n); };
    for (int32_t slot = 0; slot < 3; ++slot) {
      const auto n = static_cast<std::size_t>(params->parameter(slot).count);
      for (const Part part : {Part::master, Part::copy})
        add(params->data(slot, part), n * size_of(params->dtype(slot, part)));
    }
    for (const Optimizer::StateTensor& t : optimizer->state_tensors())
      add(t.data, static_cast<std::size_t>(t.shape.elements()) * sizeof(float));
    const uint64_t steps = optimizer->applied_steps();
    const double rate = optimizer->learning_rate();
    add(&steps, sizeof steps);
    add(&rate, sizeof rate);
    return bytes;
  }

  std::string told;
  std::shared_ptr<Params> params;
  std::unique_ptr<Optimizer> optimizer;
};

template <typename F>
mpt_status status_of(F&& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.status();
  }
  return MPT_OK;
}

}  // namespace

TEST_CASE("a skipped step never happened: masters, copies, moments, averages, counts and schedule keep every bit") {
  mpt_schedule_options schedule{};
  schedule.kind = MPT_SCHEDULE_LINEAR;
  schedule.total_steps = 100;
  for (const mpt_optimizer_kind kind : all_kinds)
    for (const mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16, MPT_PRECISION_BF16}) {
      mpt_optimizer_options o = options_of(kind);
      o.schedule = &schedule;
      o.average_decay = 0.9;
      o.clip_norm = 0.1;
      o.statistics_every = 1;
      Training t(precision, o);
      Scaler scaler(scaler_options());
      t.train(scaler, 0);
      t.train(scaler, 1);
      const std::string before = t.everything();
      const struct {
        int32_t slot;
        int64_t element;
        double value;
      } bad[] = {{0, 0, nan64}, {0, 19999, inf64}, {0, 16384, -inf64}, {1, 36, nan64}, {2, 4, inf64}};
      for (const auto& b : bad) {
        t.params->begin_gradients(&scaler);
        t.set_gradients(scaler.scale());
        t.set_gradient(b.slot, b.element, b.value);
        const double scale = scaler.scale();
        const mpt_step_result r = t.step(&scaler);
        CHECK(r.skipped == 1);
        CHECK(r.scale == scale);
        CHECK_FALSE(std::isfinite(r.gradient_norm));
        CHECK(r.applied_steps == 2);
        CHECK(scaler.scale() == scale / 2);
        CHECK(t.everything() == before);
      }
      CHECK(t.optimizer->learning_rate() == o.learning_rate * 0.98);
      CHECK(t.train(scaler, 2).skipped == 0);  // and training goes on
      CHECK(t.everything() != before);
    }
}

TEST_CASE("on a step that grows the scale, gradients are unscaled with the old one") {
  mpt_scaler_options so = scaler_options();
  so.growth_interval = 1;
  Scaler scaler(so);
  Training t(MPT_PRECISION_FP16, plain_sgd(1));
  t.set_weights(0, 1);
  t.params->begin_gradients(&scaler);
  for (int i = 0; i < 20000; ++i) t.set_gradient(0, i, 65536 * 0.0625);
  const mpt_step_result r = t.step(&scaler);
  CHECK(scaler.scale() == 131072);
  CHECK(r.scale == 65536);
  CHECK(t.weights(0)[777] == 1 - 0.0625f);
}

TEST_CASE("any power of two as scale gives the same bits: epsilon and clipping apply to unscaled gradients") {
  for (const mpt_optimizer_kind kind : all_kinds) {
    std::string first;
    for (const double scale : {1.0, 1024.0, 0x1p24}) {
      mpt_scaler_options so = scaler_options(MPT_SCALER_STATIC);
      so.initial_scale = scale;
      Scaler scaler(so);
      mpt_optimizer_options o = options_of(kind);
      o.clip_value = 0.008;
      o.clip_norm = 0.3;
      Training t(MPT_PRECISION_FP32, o);
      for (int i = 0; i < 3; ++i) t.train(scaler, i);
      if (first.empty()) first = t.everything();
      CHECK(t.everything() == first);
    }
  }
}

TEST_CASE("all-zero gradients are legal, clipped or not, and leave weights without decay as they are") {
  for (const mpt_optimizer_kind kind : all_kinds) {
    mpt_optimizer_options o = options_of(kind);
    o.weight_decay = 0;
    o.clip_norm = 1;
    Training t(MPT_PRECISION_FP16, o);
    Scaler scaler(scaler_options());
    const std::vector<float> before = t.weights(0);
    for (int i = 0; i < 3; ++i) {
      t.params->begin_gradients(&scaler);
      const mpt_step_result r = t.step(&scaler);
      CHECK(r.skipped == 0);
      CHECK(r.gradient_norm == 0);
    }
    CHECK(t.weights(0) == before);
    CHECK(scaler.scale() == 65536);
  }
}

TEST_CASE("clipping: by value first, then by the global norm over all tensors; a smaller norm is left alone") {
  mpt_optimizer_options o = plain_sgd(1);
  o.clip_value = 2;
  o.clip_norm = 4;
  Training t(MPT_PRECISION_FP32, o);
  for (int32_t slot = 0; slot < 3; ++slot) t.set_weights(slot, 0);
  t.set_gradient(0, 0, 100);
  t.set_gradient(0, 19999, -100);
  t.set_gradient(1, 36, 2);
  t.set_gradient(2, 1, 2);
  mpt_step_result r = t.step(nullptr);
  CHECK(r.gradient_norm == 4);
  CHECK(t.weights(0)[0] == -2);
  CHECK(t.weights(0)[19999] == 2);
  t.set_gradient(1, 0, 2);  // now five twos: norm sqrt(20)
  r = t.step(nullptr);
  CHECK(r.gradient_norm == doctest::Approx(std::sqrt(20.0)).epsilon(1e-15));
  CHECK(t.weights(1)[0] == doctest::Approx(-2 * 4 / std::sqrt(20.0)).epsilon(1e-6));
}

TEST_CASE("gradients must carry the scale of now, once") {
  Training t(MPT_PRECISION_FP16, plain_sgd(0.1));
  Scaler scaler(scaler_options()), other(scaler_options());
  const auto step = [&](Scaler* s) { return status_of([&] { t.step(s); }); };
  CHECK(step(&scaler) == MPT_ERROR_INVALID_STATE);  // no backward pass
  t.params->begin_gradients(&scaler);
  const std::string before = t.everything();
  CHECK(step(&other) == MPT_ERROR_INVALID_STATE);   // another scaler's
  CHECK(step(nullptr) == MPT_ERROR_INVALID_STATE);  // scaled, said not to be
  CHECK(t.everything() == before);
  CHECK(step(&scaler) == MPT_OK);
  CHECK(step(&scaler) == MPT_ERROR_INVALID_STATE);  // used up
  t.params->begin_gradients(&scaler);
  scaler.commit(scaler.change(true, false));
  CHECK(step(&scaler) == MPT_ERROR_INVALID_STATE);  // the scale changed in between
}

TEST_CASE("gradients that were unscaled in place are not unscaled again") {
  std::vector<float> expected;
  for (const bool in_place : {false, true}) {
    Training t(MPT_PRECISION_FP32, plain_sgd(0.5));
    Scaler scaler(scaler_options());
    t.params->begin_gradients(&scaler);
    t.set_gradients(scaler.scale());
    if (in_place) t.params->unscale_gradients(scaler, "test");
    t.step(&scaler);
    if (!in_place) expected = t.weights(0);
    CHECK(t.weights(0) == expected);
  }
}

TEST_CASE("bf16 without a scaler reports its skips, and says so when they do not end") {
  Training t(MPT_PRECISION_BF16, plain_sgd(0.1));
  for (int i = 1; i < 100; ++i) {
    t.set_gradient(1, 3, inf64);
    const mpt_step_result r = t.step(nullptr);
    CHECK(r.skipped == 1);
    CHECK(r.skipped_steps == static_cast<uint64_t>(i));
  }
  const std::string before = t.everything();
  try {
    t.step(nullptr);
    FAIL("expected an error");
  } catch (const Error& e) {
    CHECK(e.status() == MPT_ERROR_NUMERIC);
    CHECK(std::string(e.what()).find("'b'") != std::string::npos);
  }
  CHECK(t.everything() == before);
  CHECK(t.optimizer->scaler_off().numbers().skipped == 99);
}

TEST_CASE("stuck at the smallest scale: the policy decides, and an error leaves the scaler as it was") {
  for (const int32_t policy : {MPT_SKIP_CONTINUE, MPT_SKIP_FAIL}) {
    mpt_scaler_options so = scaler_options();
    so.initial_scale = 1;
    so.skip_limit = 2;
    so.skip_policy = policy;
    Scaler scaler(so);
    Training t(MPT_PRECISION_FP16, plain_sgd(0.1));
    const auto overflow = [&] {
      t.params->begin_gradients(&scaler);
      t.set_gradient(0, 5, nan64);
      return status_of([&] { t.step(&scaler); });
    };
    CHECK(overflow() == MPT_OK);
    const uint64_t epoch = scaler.epoch();
    CHECK(overflow() == (policy == MPT_SKIP_FAIL ? MPT_ERROR_NUMERIC : MPT_OK));
    CHECK(scaler.epoch() == (policy == MPT_SKIP_FAIL ? epoch : epoch + 1));
  }
}

TEST_CASE("a parameter without a gradient is left alone: no moments, no decay, no average") {
  for (const mpt_optimizer_kind kind : all_kinds) {
    mpt_optimizer_options o = options_of(kind);
    o.weight_decay = 0.1;
    o.average_decay = 0.5;
    Training t(MPT_PRECISION_FP16, o);
    Scaler scaler(scaler_options());
    t.train(scaler, 0);
    const auto of_b = [&] {
      std::vector<float> values = t.weights(1);
      for (const Optimizer::StateTensor& s : t.optimizer->state_tensors())
        if (s.name.size() > 2 && s.name.substr(s.name.size() - 2) == ".b")
          values.insert(values.end(), s.data, s.data + s.shape.elements());
      return values;
    };
    const std::vector<float> before = of_b(), before_a = t.weights(0);
    const std::vector<int32_t> slots = {0, 2};
    t.params->begin_gradients(&scaler, &slots);
    t.set_gradients(scaler.scale(), 1);
    t.set_gradient(1, 0, nan64);  // whatever the buffer holds
    CHECK(t.step(&scaler).skipped == 0);
    CHECK(of_b() == before);
    CHECK(t.weights(0) != before_a);
  }
}

TEST_CASE("weight decay works on the FP32 master, in steps far below FP16's resolution") {
  mpt_optimizer_options o = plain_sgd(1);
  o.weight_decay = 1e-5;
  Training t(MPT_PRECISION_FP16, o);
  t.set_weights(0, 1);
  for (int i = 0; i < 100; ++i) t.step(nullptr);
  CHECK(t.weights(0)[3] == doctest::Approx(std::pow(1 - 1e-5, 100)).epsilon(1e-5));
  CHECK(static_cast<uint16_t*>(t.params->data(0, Part::copy))[3] == f32_to_f16(0.999f));
}

TEST_CASE("without a master copy, updates below half a unit vanish; that is what the master is for") {
  for (const bool no_master : {false, true}) {
    Training t(MPT_PRECISION_FP16, plain_sgd(1), 2, no_master);
    t.set_weights(0, 1);
    for (int i = 0; i < 20000; ++i) t.set_gradient(0, i, -0x1p-12);  // half a unit of FP16 at 1 is 2^-11
    for (int i = 0; i < 8; ++i) t.step(nullptr);
    CHECK(t.weights(0)[0] == (no_master ? 1 : 1 + 0x1p-9f));
    t.set_weights(2, 1);  // FP32 parameters keep theirs
    for (int i = 0; i < 5; ++i) t.set_gradient(2, i, -0x1p-20);
    t.step(nullptr);
    CHECK(t.weights(2)[0] == 1 + 0x1p-20f);
  }
}

TEST_CASE("weights beyond the 16-bit range are counted and told by name") {
  Training t(MPT_PRECISION_FP16, plain_sgd(1));
  t.set_weights(1, 65519.0f);
  t.set_gradient(1, 4, -1);
  t.set_gradient(1, 9, -1);
  const mpt_step_result r = t.step(nullptr);
  CHECK(r.fp16_overflows == 2);
  CHECK(t.weights(1)[4] == 65520);
  CHECK(t.told.find("'b'") != std::string::npos);
  Training wide(MPT_PRECISION_BF16, plain_sgd(1));
  wide.set_weights(1, 65519.0f);
  wide.set_gradient(1, 4, -1);
  CHECK(wide.step(nullptr).fp16_overflows == 0);
}

TEST_CASE("groups: the last that fits counts; frozen parameters stay and are not checked") {
  Training t(MPT_PRECISION_FP32, plain_sgd(1));
  mpt_group_options all{}, frozen{};
  all.learning_rate_factor = 0.5;
  all.weight_decay = 0.25;
  frozen.frozen = 1;
  frozen.learning_rate_factor = 1;
  frozen.weight_decay = -1;
  CHECK(t.optimizer->add_group("*", all, "test") == 3);
  CHECK(t.optimizer->add_group("?", frozen, "test") == 2);
  mpt_group_options thawed = all;
  thawed.weight_decay = -1;
  CHECK(t.optimizer->add_group("b", thawed, "test") == 1);
  CHECK(status_of([&] { t.optimizer->add_group("c*", all, "test"); }) == MPT_ERROR_INVALID_ARGUMENT);
  for (int32_t slot = 0; slot < 3; ++slot) t.set_weights(slot, 1);
  t.set_gradient(0, 0, nan64);  // frozen
  t.set_gradient(1, 0, 1);
  t.set_gradient(2, 0, 1);
  CHECK(t.step(nullptr).skipped == 0);
  CHECK(t.weights(0)[0] == 1);
  CHECK(t.weights(1)[0] == 0.5f);  // factor 1/2, the optimizer's decay 0
  CHECK(t.weights(2)[0] == 1 - 0.5f * 1.25f);
}

TEST_CASE("the average starts as the weights are when training starts, and follows them") {
  mpt_optimizer_options o = plain_sgd(1);
  o.average_decay = 0.75;
  for (const bool no_master : {false, true}) {
    Training t(MPT_PRECISION_FP16, o, 2, no_master);
    CHECK(t.optimizer->average(0)[7] == t.weights(0)[7]);
    t.set_weights(0, 2);  // loaded after the optimizer was made
    t.set_gradient(0, 7, 1);
    t.step(nullptr);
    CHECK(t.optimizer->average(0)[7] == 1.75f);
    CHECK(t.optimizer->average(0)[8] == 2);
  }
}

TEST_CASE("micro-steps are added in FP32; an overflow in any of them drops the whole batch") {
  for (const int bad : {-1, 0, 1, 2}) {
    Training t(MPT_PRECISION_FP16, plain_sgd(1));
    Scaler scaler(scaler_options());
    t.optimizer->use_sums();
    CHECK(t.optimizer->sums_bytes() == t.optimizer->planned_sums_bytes());
    t.set_weights(0, 1);
    t.set_weights(1, 1);
    const std::string before = t.everything();
    t.optimizer->clear_sums();
    for (int micro = 0; micro < 3; ++micro) {
      const std::vector<int32_t> slots = micro == 1 ? std::vector<int32_t>{0, 1} : std::vector<int32_t>{0, 2};
      t.params->begin_gradients(&scaler, &slots);
      t.set_gradient(0, 5, scaler.scale() * 0.125);
      t.set_gradient(1, 5, scaler.scale() * 0.125);
      if (micro == bad) t.set_gradient(0, 6, inf64);
      t.optimizer->gather(&scaler);
      t.set_gradient(0, 6, 0);
    }
    const GradientCheck check = t.optimizer->check_sums();
    CHECK(check.finite == (bad < 0));
    if (check.finite) {
      CHECK(check.norm == std::sqrt(0.375 * 0.375 + 0.125 * 0.125));
      t.optimizer->apply(check);
      CHECK(t.weights(0)[5] == 1 - 0.375f);
      CHECK(t.weights(1)[5] == 1 - 0.125f);
    } else {
      CHECK(check.slot == 0);
      CHECK(check.element == 6);
      t.optimizer->skip();
      CHECK(t.everything() == before);
    }
  }
}

TEST_CASE("an update without a check is refused") {
  Training t(MPT_PRECISION_FP32, plain_sgd(1));
  CHECK(status_of([&] { t.optimizer->apply(GradientCheck()); }) == MPT_ERROR_INVALID_STATE);
}

TEST_CASE("training goes on from a checkpoint bit for bit") {
  for (const mpt_optimizer_kind kind : all_kinds) {
    mpt_optimizer_options o = options_of(kind);
    o.average_decay = 0.9;
    mpt_schedule_options schedule{};
    schedule.kind = MPT_SCHEDULE_COSINE;
    schedule.total_steps = 10;
    o.schedule = &schedule;
    Training one(MPT_PRECISION_FP16, o), two(MPT_PRECISION_FP16, o);
    Scaler scaler(scaler_options());
    for (int i = 0; i < 3; ++i) one.train(scaler, i);
    one.optimizer->set_learning_rate(0.0123, "test");
    Metadata saved;
    one.optimizer->export_state("o.", &saved);
    for (int32_t slot = 0; slot < 3; ++slot) two.params->write_master(slot, one.weights(slot).data());
    const auto from = one.optimizer->state_tensors(), to = two.optimizer->state_tensors();
    REQUIRE(from.size() == to.size());
    for (std::size_t i = 0; i < from.size(); ++i)
      std::memcpy(to[i].data, from[i].data, static_cast<std::size_t>(from[i].shape.elements()) * sizeof(float));
    two.optimizer->set_state(two.optimizer->read_state("o.", saved, "file"));
    CHECK(two.everything() == one.everything());
    one.train(scaler, 3);
    two.train(scaler, 3);
    CHECK(two.everything() == one.everything());
    saved.erase("o.applied_steps");
    CHECK(status_of([&] { two.optimizer->read_state("o.", saved, "file"); }) == MPT_ERROR_CORRUPT);
    saved["o.kind"] = "adamax";
    CHECK(status_of([&] { two.optimizer->read_state("o.", saved, "file"); }) == MPT_ERROR_INVALID_ARGUMENT);
  }
}

TEST_CASE("any number of threads gives the same bits") {
  for (const mpt_optimizer_kind kind : all_kinds) {
    std::string first;
    for (const int threads : {1, 2, 3}) {
      mpt_optimizer_options o = options_of(kind);
      o.clip_norm = 0.1;
      Training t(MPT_PRECISION_FP16, o, threads);
      Scaler scaler(scaler_options());
      for (int i = 0; i < 3; ++i) t.train(scaler, i);
      if (first.empty()) first = t.everything();
      CHECK(t.everything() == first);
    }
  }
}

TEST_CASE("planned bytes of moments and averages are what is allocated") {
  struct Expected {
    mpt_optimizer_kind kind;
    double average;
    uint64_t bytes;
  };
  constexpr uint64_t one = 80000 + 192 + 64;
  for (const Expected& e : {Expected{MPT_SGD, 0, one},
                            {MPT_ADAMW, 0, 2 * one},
                            {MPT_ADAMW, 0.9, 3 * one},
                            {MPT_ADAGRAD, 0, one},
                            {MPT_NOVOGRAD, 0, one + 64},
                            {MPT_LION, 0, one}}) {
    mpt_optimizer_options o = options_of(e.kind);
    o.average_decay = e.average;
    Training t(MPT_PRECISION_FP16, o);
    CHECK(t.optimizer->state_bytes() == e.bytes);
    CHECK(Optimizer::planned_bytes(*t.params, o) == e.bytes);
    CHECK(t.optimizer->planned_sums_bytes() == one);
  }
  mpt_optimizer_options o = options_of(MPT_ADAM);
  o.pattern = "b";
  CHECK(Optimizer::planned_bytes(*Training(MPT_PRECISION_FP32, plain_sgd(1)).params, o) == 2 * 192);
}

TEST_CASE("numbers that make no optimizer are refused") {
  const auto refused = [](mpt_optimizer_options o) {
    return status_of([&] { Training t(MPT_PRECISION_FP32, o); }) == MPT_ERROR_INVALID_ARGUMENT;
  };
  CHECK_FALSE(refused(options_of(MPT_ADAMW)));
  for (const auto member :
       {&mpt_optimizer_options::learning_rate, &mpt_optimizer_options::beta1, &mpt_optimizer_options::beta2,
        &mpt_optimizer_options::epsilon, &mpt_optimizer_options::weight_decay, &mpt_optimizer_options::momentum,
        &mpt_optimizer_options::clip_norm, &mpt_optimizer_options::clip_value, &mpt_optimizer_options::average_decay})
    for (const double bad : {nan64, inf64, -1.0}) {
      mpt_optimizer_options o = options_of(MPT_ADAMW);
      o.*member = bad;
      CHECK(refused(o));
    }
  mpt_optimizer_options o = options_of(MPT_ADAMW);
  o.beta2 = 1;
  CHECK(refused(o));
  o = options_of(MPT_ADAM);
  o.epsilon = 1e-60;  // zero in FP32: 0 / 0 for gradients that are always zero
  CHECK(refused(o));
  o = plain_sgd(1);
  o.nesterov = 1;  // without momentum
  CHECK(refused(o));
  o = plain_sgd(1);
  o.pattern = "nothing*";
  CHECK(refused(o));
  o = plain_sgd(1);
  o.kind = 99;
  CHECK(refused(o));
}
