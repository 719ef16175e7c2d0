// Steps whose results are asked for late or never, as a device that works behind the host's back takes them. On a device that
// decides on every step itself (MPT_TEST_DEVICE=emu or cuda) this is another way through the library than on the CPU; what
// comes out is the same.
#include <cmath>

#include "end_to_end/session.h"

using namespace e2e;

namespace {

std::vector<float> trained(const Settings& settings, int steps, bool ask, std::vector<double>* losses = nullptr) {
  Session session(settings);
  Data data(32);
  for (int i = 0; i < steps; ++i) {
    if (ask) {
      const mpt_step_result r = session.step(data);
      if (losses) losses->push_back(r.loss);
    } else {
      MPT_OKAY(mpt_trainer_step(session.trainer, data.arrays, 2, nullptr));
    }
  }
  return session.all_weights();
}

mpt_scaler_state state_of(mpt_scaler* scaler) {
  mpt_scaler_state state;
  mpt_scaler_state_init(&state, sizeof state);
  MPT_OKAY(mpt_scaler_get_state(scaler, &state));
  return state;
}

}  // namespace

TEST_SUITE("deferred results") {
  TEST_CASE("steps that nobody waits for give the same bits") {
    for (const mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16, MPT_PRECISION_BF16}) {
      Settings s;
      s.precision = precision;
      s.dropout = 0.2;
      CHECK(same_bits(trained(s, 100, true), trained(s, 100, false)));  // more steps than a device keeps results of
    }
  }

  TEST_CASE("a recorded step gives the bits of one that is launched kernel by kernel") {
    for (const mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16, MPT_PRECISION_BF16}) {
      for (const int32_t micro_steps : {1, 3}) {
        Settings s;
        s.precision = precision;
        s.dropout = 0.2;
        s.tune_optimizer = [](mpt_optimizer_options& o) {
          o.clip_norm = 0.5;
          o.average_decay = 0.9;
        };
        s.tune_trainer = [&](mpt_trainer_options& o) { o.accumulation_steps = micro_steps; };
        std::vector<double> recorded_losses, eager_losses;
        const std::vector<float> recorded = trained(s, 12, true, &recorded_losses);
        s.tune_trainer = [&](mpt_trainer_options& o) {
          o.accumulation_steps = micro_steps;
          o.eager = 1;
        };
        CHECK(same_bits(recorded, trained(s, 12, true, &eager_losses)));
        CHECK(recorded_losses == eager_losses);
      }
    }
  }

  TEST_CASE("whole steps and steps in two halves give the same bits") {
    // On a device that decides for itself the halves are decided on by the host.
    for (const mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16}) {
      Settings s;
      s.precision = precision;
      s.tune_optimizer = [](mpt_optimizer_options& o) {
        o.clip_norm = 0.5;
        o.clip_value = 0.1;
        o.average_decay = 0.9;
      };
      Session whole(s), halves(s), mixed(s);
      Data data(32);
      mpt_step_result r;
      mpt_step_result_init(&r, sizeof r);
      for (int i = 0; i < 10; ++i) {
        const mpt_step_result w = whole.step(data);
        MPT_OKAY(mpt_trainer_backward(halves.trainer, data.arrays, 2, nullptr));
        MPT_OKAY(mpt_trainer_update(halves.trainer, &r));
        CHECK(w.loss == r.loss);
        CHECK(w.gradient_norm == r.gradient_norm);
        CHECK(w.learning_rate == r.learning_rate);
        CHECK(w.applied_steps == r.applied_steps);
        if (i % 3 == 1) {
          MPT_OKAY(mpt_trainer_backward(mixed.trainer, data.arrays, 2, nullptr));
          MPT_OKAY(mpt_trainer_update(mixed.trainer, nullptr));
        } else {
          MPT_OKAY(mpt_trainer_step(mixed.trainer, data.arrays, 2, nullptr));
        }
      }
      CHECK(same_bits(whole.all_weights(), halves.all_weights()));
      CHECK(same_bits(whole.all_weights(), mixed.all_weights()));
    }
  }

  TEST_CASE("the scale changes in steps that nobody waits for, and can be read after them") {
    Settings s;
    s.precision = MPT_PRECISION_FP16;
    s.tune_scaler = [](mpt_scaler_options& o) {
      o.initial_scale = 16777216;  // overflows at first
      o.growth_interval = 5;
      o.max_scale = 16777216;
    };
    Session asked(s), silent(s);
    Data data(32);
    int skipped = 0;
    for (int i = 0; i < 40; ++i) {
      skipped += asked.step(data).skipped;
      MPT_OKAY(mpt_trainer_step(silent.trainer, data.arrays, 2, nullptr));
    }
    CHECK(skipped > 0);
    const mpt_scaler_state a = state_of(asked.scaler), b = state_of(silent.scaler);
    CHECK(a.scale == b.scale);
    CHECK(a.applied == b.applied);
    CHECK(a.skipped == b.skipped);
    CHECK(a.skipped == static_cast<uint64_t>(skipped));
    CHECK(a.growth_counter == b.growth_counter);
    CHECK(same_bits(asked.all_weights(), silent.all_weights()));
  }

  TEST_CASE("a learning rate set between steps holds from the next on") {
    Session asked, silent;
    Data data(32);
    for (int i = 0; i < 12; ++i) {
      if (i == 4 || i == 9)
        for (const Session* session : {&asked, &silent})
          MPT_OKAY(mpt_optimizer_set_learning_rate(session->optimizer, i == 4 ? 0.1 : 0.001));
      const mpt_step_result r = asked.step(data);
      CHECK(r.learning_rate == (i < 4 ? 0.01 : i < 9 ? 0.1 : 0.001));
      MPT_OKAY(mpt_trainer_step(silent.trainer, data.arrays, 2, nullptr));
    }
    CHECK(same_bits(asked.all_weights(), silent.all_weights()));
  }

  TEST_CASE("a schedule goes by the updates that were applied") {
    Settings s;
    s.precision = MPT_PRECISION_FP16;
    mpt_schedule_options schedule;
    mpt_schedule_options_init(&schedule, sizeof schedule);
    const double table[] = {1, 0.5, 0.25, 0.125};
    schedule.kind = MPT_SCHEDULE_TABLE;
    schedule.table = table;
    schedule.table_length = 4;
    s.tune_optimizer = [&](mpt_optimizer_options& o) { o.schedule = &schedule; };
    s.tune_scaler = [](mpt_scaler_options& o) { o.initial_scale = o.max_scale = 1073741824; };
    Session session(s);
    Data data(32);
    uint64_t applied = 0;
    for (int i = 0; i < 30; ++i) {
      const mpt_step_result r = session.step(data);
      CHECK(r.learning_rate == 0.01 * table[applied < 3 ? applied : 3]);
      applied += r.skipped ? 0 : 1;
      CHECK(r.applied_steps == applied);
    }
    CHECK(applied > 3);
    CHECK(applied < 30);
  }

  TEST_CASE("gradients of a step that nobody waited for are read with its scale") {
    Settings s;
    s.precision = MPT_PRECISION_FP16;
    Session session(s);
    Data data(32);
    MPT_OKAY(mpt_trainer_step(session.trainer, data.arrays, 2, nullptr));
    std::vector<float> g(4 * 16);
    mpt_array out{};
    out.data = g.data();
    out.dtype = MPT_FLOAT32;
    out.rank = 2;
    out.shape[0] = 4;
    out.shape[1] = 16;
    MPT_OKAY(mpt_params_get(session.params, "fc2.weight", MPT_PART_GRADIENT, &out));
    double squares = 0;
    for (const float v : g) squares += static_cast<double>(v) * static_cast<double>(v);
    CHECK(squares > 0);
    CHECK(std::sqrt(squares) < 10);  // not 65536 times that
  }

  TEST_CASE("two trainers of one store take turns") {
    Settings s;
    Session session(s), alone(s);
    mpt_trainer* second = nullptr;
    MPT_OKAY(mpt_trainer_create(&second, session.loss, session.params, session.optimizer, session.scaler, nullptr));
    Data data(32);
    for (int i = 0; i < 8; ++i) {
      MPT_OKAY(mpt_trainer_step(i % 2 ? second : session.trainer, data.arrays, 2, nullptr));
      MPT_OKAY(mpt_trainer_step(alone.trainer, data.arrays, 2, nullptr));
    }
    CHECK(same_bits(session.all_weights(), alone.all_weights()));
    CHECK(state_of(session.scaler).applied == 8);
    mpt_trainer_destroy(second);
    CHECK(state_of(session.scaler).applied == 8);
  }

  TEST_CASE("too many skips at the scale's floor are told, waited for or not") {
    for (const bool ask : {true, false}) {
      Settings s;
      s.precision = MPT_PRECISION_FP16;
      s.tune_scaler = [](mpt_scaler_options& o) {
        o.mode = MPT_SCALER_STATIC;
        o.initial_scale = 1073741824;  // always too large
        o.skip_limit = 3;
      };
      Session session(s);
      Data data(32);
      const std::vector<float> before = session.all_weights();
      mpt_step_result r;
      mpt_step_result_init(&r, sizeof r);
      mpt_status status = MPT_OK;
      int steps = 0;
      for (; status == MPT_OK && steps < 80; ++steps)
        status = mpt_trainer_step(session.trainer, data.arrays, 2, ask ? &r : nullptr);
      CHECK(status == MPT_ERROR_NUMERIC);
      if (ask) CHECK(steps == 3);
      CHECK(std::string(mpt_last_error_message()).find("fc") != std::string::npos);
      CHECK(same_bits(before, session.all_weights()));
    }
  }
}
