// Training as a user sees it: it learns, gives the same bits for any number of threads, and goes on where it stopped.
#include <cmath>
#include <cstdio>
#include <string>

#include "session.h"

using namespace e2e;

TEST_SUITE("end_to_end.training") {
  TEST_CASE("every precision and optimizer learns") {
    for (mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16, MPT_PRECISION_BF16})
      for (mpt_optimizer_kind kind : {MPT_SGD, MPT_ADAM, MPT_ADAMW, MPT_LAMB, MPT_ADAGRAD, MPT_NOVOGRAD, MPT_LION}) {
        CAPTURE(name_of(precision));
        CAPTURE(kind);
        Settings s;
        s.precision = precision;
        s.optimizer = kind;
        s.tune_optimizer = [&](mpt_optimizer_options& o) {
          if (kind == MPT_SGD) {
            o.learning_rate = 0.2;
            o.momentum = 0.9;
            o.nesterov = 1;
          }
          if (kind == MPT_ADAGRAD) o.learning_rate = 0.1;
          if (kind == MPT_LION) o.learning_rate = 0.003;
          o.clip_norm = 5;
        };
        Session session(s);
        Data data(64);
        const double first = session.step(data).loss;
        double last = 0;
        for (int i = 0; i < 150; ++i) last = session.step(data).loss;
        CHECK(first > 1.0);  // about log 4
        CHECK(last < 0.5 * first);
      }
  }

  TEST_CASE("16-bit training follows FP32") {
    Data data(64);
    std::vector<double> final_loss;
    for (mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16, MPT_PRECISION_BF16}) {
      Settings s;
      s.precision = precision;
      Session session(s);
      double loss = 0;
      for (int i = 0; i < 100; ++i) loss = session.step(data).loss;
      final_loss.push_back(loss);
    }
    // Roundings of 2^-11 (fp16) and 2^-8 (bf16) per stored value; a loss of order 1 over a few dozen roundings per output moves by
    // a few times the unit of the type.
    CHECK(std::fabs(final_loss[1] - final_loss[0]) < 16 * std::ldexp(1.0, -11));
    CHECK(std::fabs(final_loss[2] - final_loss[0]) < 16 * std::ldexp(1.0, -8));
  }

  TEST_CASE("the number of threads changes no bit") {
    for (mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16, MPT_PRECISION_BF16}) {
      CAPTURE(name_of(precision));
      std::vector<std::vector<float>> results;
      for (int32_t threads : {1, 2, 3}) {
        Settings s;
        s.precision = precision;
        s.threads = threads;
        s.dropout = 0.1;
        Session session(s);
        for (uint32_t i = 0; i < 10; ++i) {
          Data data(61, i);
          session.step(data);
        }
        results.push_back(session.all_weights());
      }
      CHECK(same_bits(results[0], results[1]));
      CHECK(same_bits(results[0], results[2]));
    }
  }

  TEST_CASE("run N steps = run k, checkpoint, resume, run N - k, bit for bit") {
    for (mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16, MPT_PRECISION_BF16})
      for (mpt_optimizer_kind kind : {MPT_SGD, MPT_ADAMW, MPT_LAMB, MPT_ADAGRAD, MPT_NOVOGRAD, MPT_LION}) {
        CAPTURE(name_of(precision));
        CAPTURE(kind);
        Settings s;
        s.precision = precision;
        s.optimizer = kind;
        s.dropout = 0.2;
        s.tune_scaler = [](mpt_scaler_options& o) { o.growth_interval = 5; };
        mpt_schedule_options schedule;
        mpt_schedule_options_init(&schedule, sizeof schedule);
        schedule.kind = MPT_SCHEDULE_COSINE;
        schedule.warmup_steps = 4;
        schedule.total_steps = 20;
        s.tune_optimizer = [&](mpt_optimizer_options& o) {
          if (kind == MPT_SGD) o.momentum = 0.9;
          o.average_decay = 0.9;
          o.schedule = &schedule;
        };
        const char* path = "resume_test.safetensors";
        Session whole(s);
        for (uint32_t i = 0; i < 16; ++i) {
          Data data(32, i);
          whole.step(data);
          if (i == 8) MPT_OKAY(mpt_trainer_save(whole.trainer, path));
        }
        s.seed = 99;  // the checkpoint's seed is the one that counts
        Session rest(s);
        MPT_OKAY(mpt_trainer_load(rest.trainer, path));
        mpt_step_result last{};
        for (uint32_t i = 9; i < 16; ++i) {
          Data data(32, i);
          last = rest.step(data);
        }
        CHECK(same_bits(whole.all_weights(), rest.all_weights()));
        CHECK(last.applied_steps + last.skipped_steps == 16);
        double a = 0, b = 0;
        Data data(32, 77);
        MPT_OKAY(mpt_trainer_evaluate(whole.trainer, data.arrays, 2, 1, &a));
        MPT_OKAY(mpt_trainer_evaluate(rest.trainer, data.arrays, 2, 1, &b));
        CHECK(a == b);
        std::remove(path);
      }
  }

  TEST_CASE("accumulated micro-steps give the gradient of the whole batch") {
    Settings s;
    Session whole(s);
    s.tune_trainer = [](mpt_trainer_options& o) { o.accumulation_steps = 4; };
    Session parts(s);
    Data data(64);
    const mpt_step_result expected = whole.step(data);
    mpt_step_result found{};
    for (int i = 0; i < 4; ++i) {
      Data quarter(16);
      std::memcpy(quarter.x.data(), data.x.data() + 16 * 8 * i, quarter.x.size() * sizeof(float));
      std::memcpy(quarter.y.data(), data.y.data() + 16 * i, quarter.y.size() * sizeof(int32_t));
      found = parts.step(quarter);
      CHECK(found.micro_step == (i + 1) % 4);
    }
    // The same sums in another order: a few dozen FP32 roundings apart.
    CHECK(found.loss == doctest::Approx(expected.loss).epsilon(1e-6));
    CHECK(found.gradient_norm == doctest::Approx(expected.gradient_norm).epsilon(1e-5));
    CHECK(found.applied_steps == 1);
  }

  TEST_CASE("a smaller last batch is trained and evaluated") {
    Session session;
    Data full(32), last(5);
    session.step(full);
    CHECK(session.step(last).applied_steps == 2);
    double loss = 0;
    MPT_OKAY(mpt_trainer_evaluate(session.trainer, last.arrays, 2, 0, &loss));
    CHECK(std::isfinite(loss));
  }

  TEST_CASE("predict gives what the loss is made of") {
    Session session;
    Data data(6);
    session.step(data);
    std::vector<float> logits(6 * 4);
    mpt_array out{};
    out.name = "logits";
    out.data = logits.data();
    out.dtype = MPT_FLOAT32;
    out.rank = 2;
    out.shape[0] = 6;
    out.shape[1] = 4;
    MPT_OKAY(mpt_trainer_predict(session.trainer, data.arrays, 1, &out, 1));
    double expected = 0, found = 0;
    for (int i = 0; i < 6; ++i) {
      double sum = 0;
      for (int c = 0; c < 4; ++c) sum += std::exp(static_cast<double>(logits[4 * i + c]));
      expected += (std::log(sum) - static_cast<double>(logits[4 * i + data.y[i]])) / 6;
    }
    MPT_OKAY(mpt_trainer_evaluate(session.trainer, data.arrays, 2, 0, &found));
    CHECK(found == doctest::Approx(expected).epsilon(1e-6));
  }

  TEST_CASE("kept tensors and their gradients can be read after a step") {
    Session session;
    MPT_OKAY(mpt_trainer_keep(session.trainer, "hidden"));
    MPT_OKAY(mpt_trainer_keep(session.trainer, "logits.grad"));
    Data data(6);
    session.step(data);
    std::vector<float> gradient(6 * 4), hidden(6 * 16);
    mpt_array out{};
    out.name = "logits.grad";
    out.data = gradient.data();
    out.dtype = MPT_FLOAT32;
    out.rank = 2;
    out.shape[0] = 6;
    out.shape[1] = 4;
    MPT_OKAY(mpt_trainer_fetch(session.trainer, &out));
    for (int i = 0; i < 6; ++i) {  // softmax minus one-hot: each row sums to zero
      double sum = 0, size = 0;
      for (int c = 0; c < 4; ++c) {
        sum += static_cast<double>(gradient[4 * i + c]);
        size += std::fabs(static_cast<double>(gradient[4 * i + c]));
      }
      CHECK(size > 0);
      CHECK(std::fabs(sum) < 1e-6 * size);
    }
    out.name = "hidden";
    out.data = hidden.data();
    out.shape[1] = 16;
    MPT_OKAY(mpt_trainer_fetch(session.trainer, &out));
    out.name = "logits";
    CHECK(mpt_trainer_fetch(session.trainer, &out) == MPT_ERROR_INVALID_STATE);
  }

  TEST_CASE("backward and update as separate calls; gradients can be changed in between") {
    if (!host_reads_device()) return;  // the pointers are the device's
    Session together, apart;
    Data data(16);
    together.step(data);
    double loss = 0;
    MPT_OKAY(mpt_trainer_backward(apart.trainer, data.arrays, 2, &loss));
    mpt_step_result r;
    mpt_step_result_init(&r, sizeof r);
    MPT_OKAY(mpt_trainer_update(apart.trainer, &r));
    CHECK(r.loss == loss);
    CHECK(same_bits(together.all_weights(), apart.all_weights()));
    CHECK(mpt_trainer_update(apart.trainer, &r) == MPT_ERROR_INVALID_STATE);

    MPT_OKAY(mpt_trainer_backward(apart.trainer, data.arrays, 2, nullptr));
    for (int32_t i = 0; i < mpt_params_count(apart.params); ++i) {
      mpt_array g;
      MPT_OKAY(mpt_params_tensor(apart.params, mpt_params_name(apart.params, i), MPT_PART_GRADIENT, &g));
      int64_t count = 1;
      for (int k = 0; k < g.rank; ++k) count *= g.shape[k];
      std::memset(g.data, 0, static_cast<std::size_t>(count) * mpt_dtype_size(g.dtype));
    }
    MPT_OKAY(mpt_trainer_update(apart.trainer, &r));
    CHECK(r.gradient_norm == 0);
    CHECK(r.skipped == 0);  // all-zero gradients are legal
  }

  TEST_CASE("recomputation meets its budget and changes no bit") {
    for (mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16}) {
      Settings s;
      s.precision = precision;
      s.dropout = 0.3;
      Session plain(s);
      Data data(512);
      plain.step(data);
      mpt_memory_report before;
      mpt_memory_report_init(&before, sizeof before);
      MPT_OKAY(mpt_trainer_memory(plain.trainer, &before));
      const uint64_t budget = before.activations * 98 / 100;
      s.tune_trainer = [&](mpt_trainer_options& o) { o.activation_budget = budget; };
      Session tight(s);
      tight.step(data);
      mpt_memory_report after;
      mpt_memory_report_init(&after, sizeof after);
      MPT_OKAY(mpt_trainer_memory(tight.trainer, &after));
      CHECK(after.activations <= budget);
      CHECK(after.recomputed_flops > 0);
      CHECK(same_bits(plain.all_weights(), tight.all_weights()));
    }
  }

  TEST_CASE("the reference device trains to the same loss") {
    Settings s;
    Session cpu(s);
    s.device = "reference";
    Session reference(s);
    Data data(16);
    for (int i = 0; i < 3; ++i) {
      cpu.step(data);
      reference.step(data);
    }
    double la = 0, lb = 0;
    MPT_OKAY(mpt_trainer_evaluate(cpu.trainer, data.arrays, 2, 0, &la));
    MPT_OKAY(mpt_trainer_evaluate(reference.trainer, data.arrays, 2, 0, &lb));
    CHECK(la == doctest::Approx(lb).epsilon(1e-4));
  }
}
