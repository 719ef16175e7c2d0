// Loss scaling in whole steps: a skipped step never happened, and what other implementations got wrong about it.
#include <cmath>
#include <limits>

#include "session.h"

using namespace e2e;

namespace {

mpt_scaler_state state_of(const Session& session) {
  mpt_scaler_state state;
  mpt_scaler_state_init(&state, sizeof state);
  MPT_OKAY(mpt_scaler_get_state(session.scaler, &state));
  return state;
}

// A batch that overflows any precision's gradients.
Data poisoned(int64_t batch, uint32_t seed) {
  Data data(batch, seed);
  data.x[3] = std::numeric_limits<float>::infinity();
  return data;
}

}  // namespace

TEST_SUITE("end_to_end.scaling") {
  TEST_CASE("a skipped step never happened, but for the scale") {
    for (mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16, MPT_PRECISION_BF16}) {
      CAPTURE(name_of(precision));
      Settings s;
      s.precision = precision;
      s.dropout = 0.2;
      mpt_schedule_options schedule;
      mpt_schedule_options_init(&schedule, sizeof schedule);
      schedule.kind = MPT_SCHEDULE_LINEAR;
      schedule.total_steps = 10;
      s.tune_optimizer = [&](mpt_optimizer_options& o) {
        o.schedule = &schedule;
        o.average_decay = 0.9;
        o.clip_norm = 1;  // an infinite norm must not scale the gradients to NaN or turn their sign
      };
      Session clean(s), hurt(s);
      for (uint32_t i = 0; i < 6; ++i) {
        Data data(16, i);
        clean.step(data);
        if (i == 3) {
          Data bad = poisoned(16, i);
          const std::vector<float> before = hurt.all_weights();
          const double scale = state_of(hurt).scale;
          const mpt_step_result r = hurt.step(bad);
          CHECK(r.skipped == 1);
          CHECK(r.applied_steps == 3);
          CHECK(r.skipped_steps == 1);
          CHECK(!std::isfinite(r.gradient_norm));
          CHECK(state_of(hurt).scale == scale / 2);
          CHECK(same_bits(before, hurt.all_weights()));
          double rate_clean = 0, rate_hurt = 0;
          MPT_OKAY(mpt_optimizer_learning_rate(hurt.optimizer, &rate_hurt));
          Session other(s);
          for (uint32_t k = 0; k < 3; ++k) {
            Data d(16, k);
            other.step(d);
          }
          MPT_OKAY(mpt_optimizer_learning_rate(other.optimizer, &rate_clean));
          CHECK(rate_clean == rate_hurt);  // the schedule waits for an applied update
        }
        hurt.step(data);
      }
      if (precision == MPT_PRECISION_FP16) continue;  // another scale, other roundings of subnormal gradients
      CHECK(same_bits(clean.all_weights(), hurt.all_weights()));  // moments and dropout masks included
    }
  }

  TEST_CASE("the scale grows after the interval and the step of growth is unscaled with the old scale") {
    Settings s;
    s.precision = MPT_PRECISION_FP32;  // scaling by powers of two is exact here: the same training whatever the scale
    s.tune_scaler = [](mpt_scaler_options& o) {
      o.initial_scale = 8;
      o.growth_interval = 3;
    };
    Session scaled(s);
    s.tune_scaler = [](mpt_scaler_options& o) {
      o.mode = MPT_SCALER_OFF;
      o.initial_scale = 1;
    };
    Session plain(s);
    for (uint32_t i = 0; i < 9; ++i) {
      Data data(16, i);
      const mpt_step_result r = scaled.step(data);
      const mpt_step_result expected = plain.step(data);
      CHECK(r.scale == 8.0 * std::pow(2.0, i / 3));
      CHECK(r.gradient_norm == expected.gradient_norm);
    }
    CHECK(state_of(scaled).scale == 64);
    CHECK(same_bits(scaled.all_weights(), plain.all_weights()));
  }

  TEST_CASE("small gradients survive FP16 with scaling and are lost without") {
    const auto moved = [](bool scaling) {
      Settings s;
      s.precision = MPT_PRECISION_FP16;
      s.optimizer = MPT_SGD;
      s.tune_optimizer = [](mpt_optimizer_options& o) { o.learning_rate = 1; };
      s.own_scaler = false;
      Session base(s);
      mpt_scaler_options so;
      mpt_scaler_options_init(&so, sizeof so);
      if (!scaling) so.mode = MPT_SCALER_OFF;
      mpt_scaler* scaler = nullptr;
      MPT_OKAY(mpt_scaler_create(&scaler, base.context, &so));
      // A loss of 2^-20 times the usual one: its activation gradients are below FP16's range.
      const mpt_tensor tiny = mpt_scale(base.model, base.loss, std::ldexp(1.0, -20), 0);
      mpt_trainer* trainer = nullptr;
      MPT_OKAY(mpt_trainer_create(&trainer, tiny, base.params, base.optimizer, scaler, nullptr));
      Data data(64);
      mpt_step_result r;
      mpt_step_result_init(&r, sizeof r);
      MPT_OKAY(mpt_trainer_step(trainer, data.arrays, 2, &r));
      CHECK(r.skipped == 0);
      mpt_trainer_destroy(trainer);
      mpt_scaler_destroy(scaler);
      return r.gradient_norm;
    };
    CHECK(moved(true) > 0);
    // Norm weights have FP32 gradients of their own, but what reaches them went through FP16.
    CHECK(moved(false) < 0.5 * moved(true));
  }

  TEST_CASE("an overflow in any micro-step drops the whole batch and the scale stays within it") {
    Settings s;
    s.precision = MPT_PRECISION_FP16;
    s.tune_trainer = [](mpt_trainer_options& o) { o.accumulation_steps = 3; };
    Session session(s);
    const std::vector<float> before = session.all_weights();
    const double scale = state_of(session).scale;
    for (uint32_t i = 0; i < 3; ++i) {
      Data data = i == 0 ? poisoned(8, i) : Data(8, i);
      const mpt_step_result r = session.step(data);
      CHECK(r.scale == scale);
      CHECK(r.skipped == (i == 2 ? 1 : 0));
    }
    CHECK(same_bits(before, session.all_weights()));
    CHECK(state_of(session).scale == scale / 2);
    CHECK(state_of(session).skipped == 1);
  }

  TEST_CASE("stuck at the least scale: the policy says why, or keeps the blamed op in FP32") {
    Settings s;
    s.precision = MPT_PRECISION_FP16;
    s.tune_scaler = [](mpt_scaler_options& o) {
      o.initial_scale = 2;
      o.skip_limit = 3;
    };
    Session session(s);
    const std::vector<float> before = session.all_weights();
    Data bad = poisoned(8, 1);
    mpt_status status = MPT_OK;
    int steps = 0;
    mpt_step_result r;
    mpt_step_result_init(&r, sizeof r);
    while (status == MPT_OK && steps < 10) {
      status = mpt_trainer_step(session.trainer, bad.arrays, 2, &r);
      ++steps;
    }
    CHECK(status == MPT_ERROR_NUMERIC);
    CHECK(steps == 4);  // one backs off to 1, three are at the floor
    const std::string message = mpt_last_error_message();
    CHECK(message.find("fc1") != std::string::npos);
    CHECK(message.find("forward") != std::string::npos);
    CHECK(message.find("4 steps") != std::string::npos);
    CHECK(same_bits(before, session.all_weights()));
    Data good(8);
    CHECK(session.step(good).skipped == 0);  // the objects are as before
  }

  TEST_CASE("demoting keeps an op that overflows FP16 in FP32 from then on") {
    mpt_context* context = nullptr;
    mpt_context_options device;
    mpt_context_options_init(&device, sizeof device);
    const std::string name = e2e::device();
    device.device = name.c_str();
    MPT_OKAY(mpt_context_create(&context, &device));
    mpt_model* model = nullptr;
    MPT_OKAY(mpt_model_create(&model, context));
    const int64_t shape[] = {4};
    mpt_tensor x = mpt_input(model, "x", MPT_FLOAT32, 1, shape);
    mpt_param_options wo;
    mpt_param_options_init(&wo, sizeof wo);
    wo.initializer = MPT_INIT_CONSTANT;
    wo.a = 3;
    const mpt_tensor w = mpt_param(model, "w", 1, shape, &wo);
    // (300 * 3)^2 = 810000 is beyond FP16; the root brings it back.
    const mpt_tensor loss = mpt_mean(model, mpt_sqrt(model, mpt_square(model, mpt_mul(model, x, w))), 0, nullptr, 0);
    mpt_params_options po;
    mpt_params_options_init(&po, sizeof po);
    po.precision = MPT_PRECISION_FP16;
    mpt_params* params = nullptr;
    MPT_OKAY(mpt_params_create(&params, model, &po));
    mpt_optimizer* optimizer = nullptr;
    MPT_OKAY(mpt_optimizer_create(&optimizer, params, nullptr));
    mpt_scaler_options so;
    mpt_scaler_options_init(&so, sizeof so);
    so.initial_scale = 1;
    so.skip_limit = 2;
    so.skip_policy = MPT_SKIP_DEMOTE;
    mpt_scaler* scaler = nullptr;
    MPT_OKAY(mpt_scaler_create(&scaler, context, &so));
    mpt_trainer* trainer = nullptr;
    MPT_OKAY(mpt_trainer_create(&trainer, loss, params, optimizer, scaler, nullptr));
    // The chain would be fused and stay in FP32 registers: reading the square after the step makes it a stored tensor.
    mpt_model_set_name(model, mpt_model_find(model, "square_2"), "squared");
    mpt_trainer_keep(trainer, "squared");
    const float values[] = {300, 300, 300, 300};
    mpt_array in{};
    in.name = "x";
    in.data = const_cast<float*>(values);
    in.dtype = MPT_FLOAT32;
    in.rank = 1;
    in.shape[0] = 4;
    mpt_step_result r;
    mpt_step_result_init(&r, sizeof r);
    int applied = 0;
    for (int i = 0; i < 12 && applied == 0; ++i) {
      MPT_OKAY(mpt_trainer_step(trainer, &in, 1, &r));
      applied += r.skipped == 0;
    }
    CHECK(applied == 1);
    CHECK(r.loss == doctest::Approx(900).epsilon(1e-3));
    mpt_trainer_destroy(trainer);
    mpt_scaler_destroy(scaler);
    mpt_optimizer_destroy(optimizer);
    mpt_params_destroy(params);
    mpt_model_destroy(model);
    mpt_context_destroy(context);
  }

  TEST_CASE("two losses on one optimizer: an infinity in one drops both, and each scaler changes its own scale") {
    Settings s;
    s.precision = MPT_PRECISION_FP16;
    Session session(s);
    const int64_t one[] = {1};
    const mpt_tensor factor = mpt_input(session.model, "factor", MPT_FLOAT32, 1, one);
    const mpt_tensor second = mpt_sum(session.model, mpt_mul(session.model, session.loss, factor), 0, nullptr, 0);
    mpt_scaler* other = nullptr;
    MPT_OKAY(mpt_scaler_create(&other, session.context, nullptr));
    mpt_trainer* trainer = nullptr;
    MPT_OKAY(mpt_trainer_create(&trainer, session.loss, session.params, session.optimizer, session.scaler, nullptr));
    MPT_OKAY(mpt_trainer_add_objective(trainer, second, session.optimizer, other));
    Data data(16);
    float value = 0.5f;
    mpt_array inputs[3] = {data.arrays[0], data.arrays[1], mpt_array{}};
    inputs[2].name = "factor";
    inputs[2].data = &value;
    inputs[2].dtype = MPT_FLOAT32;
    inputs[2].rank = 1;
    inputs[2].shape[0] = 1;
    mpt_step_result r;
    mpt_step_result_init(&r, sizeof r);
    MPT_OKAY(mpt_trainer_step(trainer, inputs, 3, &r));
    CHECK(r.skipped == 0);
    CHECK(r.applied_steps == 1);
    const std::vector<float> before = session.all_weights();
    value = std::numeric_limits<float>::infinity();
    MPT_OKAY(mpt_trainer_step(trainer, inputs, 3, &r));
    CHECK(r.skipped == 1);
    CHECK(same_bits(before, session.all_weights()));
    CHECK(state_of(session).scale == 65536);
    mpt_scaler_state hit;
    mpt_scaler_state_init(&hit, sizeof hit);
    MPT_OKAY(mpt_scaler_get_state(other, &hit));
    CHECK(hit.scale == 32768);
    mpt_trainer_destroy(trainer);
    mpt_scaler_destroy(other);
  }

  TEST_CASE("frozen parameters and such without a gradient are left alone") {
    Settings s;
    s.tune_optimizer = [](mpt_optimizer_options& o) { o.weight_decay = 0.5; };
    Session session(s);
    mpt_group_options group;
    mpt_group_options_init(&group, sizeof group);
    group.frozen = 1;
    int32_t matched = 0;
    MPT_OKAY(mpt_optimizer_add_group(session.optimizer, "fc1.*", &group, &matched));
    CHECK(matched == 2);
    const std::vector<float> fc1 = session.weights("fc1.weight"), fc2 = session.weights("fc2.weight");
    Data data(16);
    session.step(data);
    CHECK(same_bits(fc1, session.weights("fc1.weight")));
    CHECK(!same_bits(fc2, session.weights("fc2.weight")));
  }

  TEST_CASE("statistics tell what FP16 would lose") {
    Settings s;
    s.tune_optimizer = [](mpt_optimizer_options& o) {
      o.statistics_every = 1;
      o.learning_rate = 1e-7;  // far below half a unit in the last place of FP16 weights of order 0.3
    };
    Session session(s);
    Data data(64);
    session.step(data);
    mpt_update_statistics u;
    mpt_update_statistics_init(&u, sizeof u);
    MPT_OKAY(mpt_optimizer_statistics(session.optimizer, &u));
    CHECK(u.update == 1);
    CHECK(u.gradients == session.all_weights().size());
    uint64_t binned = 0;
    for (uint64_t n : u.gradient_histogram) binned += n;
    CHECK(binned == u.gradients - u.gradients_zero - u.gradients_non_finite);
    CHECK(u.updates_lost > u.updates / 2);
  }
}
