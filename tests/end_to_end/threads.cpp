// Contexts and threads: one thread at a time inside, destruction and cancelling from anywhere, callbacks, forks.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <string>
#include <thread>

#include "session.h"

using namespace e2e;

namespace {

// A step of this trainer waits in its op until it is let go.
struct Gate {
  std::atomic<bool> inside{false}, open{false};

  static int32_t forward(void* user, const mpt_array*, int32_t, mpt_array* out, int32_t, void*, void*) {
    auto& gate = *static_cast<Gate*>(user);
    gate.inside = true;
    while (!gate.open) std::this_thread::yield();
    *static_cast<float*>(out[0].data) = 1;
    return 0;
  }
  void wait() const {
    while (!inside) std::this_thread::yield();
  }
};

struct Gated {
  Gate gate;
  mpt_context* context = nullptr;
  mpt_model* model = nullptr;
  mpt_params* params = nullptr;
  mpt_optimizer* optimizer = nullptr;
  mpt_trainer* trainer = nullptr;

  Gated() {
    MPT_OKAY(mpt_context_create(&context, nullptr));
    MPT_OKAY(mpt_model_create(&model, context));
    const int64_t one[] = {1};
    const mpt_tensor w = mpt_param(model, "w", 1, one, nullptr);
    mpt_custom_options co;
    mpt_custom_options_init(&co, sizeof co);
    co.forward = Gate::forward;
    co.user = &gate;
    co.fp32 = 1;
    const int32_t rank = 1;
    mpt_tensor y = 0;
    mpt_custom(model, 1, &w, 1, &rank, one, &co, &y);
    const mpt_tensor loss = mpt_sum(model, mpt_mul(model, y, w), 0, nullptr, 0);
    MPT_OKAY(mpt_params_create(&params, model, nullptr));
    MPT_OKAY(mpt_optimizer_create(&optimizer, params, nullptr));
    MPT_OKAY(mpt_trainer_create(&trainer, loss, params, optimizer, nullptr, nullptr));
  }
  ~Gated() {
    mpt_trainer_destroy(trainer);
    mpt_optimizer_destroy(optimizer);
    mpt_params_destroy(params);
    mpt_model_destroy(model);
    mpt_context_destroy(context);
  }
};

struct Callback {
  mpt_trainer* trainer = nullptr;
  mpt_optimizer* optimizer = nullptr;
  mpt_status step = MPT_OK, save = MPT_OK, getter = MPT_OK;
  int32_t answer = 0;

  static int32_t call(void* user, const mpt_step_result* result) {
    auto& self = *static_cast<Callback*>(user);
    CHECK(result->applied_steps >= 1);
    double rate = 0;
    self.getter = mpt_optimizer_learning_rate(self.optimizer, &rate);
    self.save = mpt_trainer_save(self.trainer, "callback_test.safetensors");
    self.step = mpt_trainer_step(self.trainer, nullptr, 0, nullptr);
    return self.answer;
  }
};

}  // namespace

TEST_SUITE("end_to_end.threads") {
  TEST_CASE("a second thread is refused while one is inside") {
    Gated g;
    mpt_status first = MPT_ERROR_INTERNAL;
    std::thread runner([&] { first = mpt_trainer_step(g.trainer, nullptr, 0, nullptr); });
    g.gate.wait();
    double rate = 0;
    CHECK(mpt_optimizer_learning_rate(g.optimizer, &rate) == MPT_ERROR_INVALID_STATE);
    CHECK(std::string(mpt_last_error_message()).find("another thread") != std::string::npos);
    g.gate.open = true;
    runner.join();
    CHECK(first == MPT_OK);
    MPT_OKAY(mpt_optimizer_learning_rate(g.optimizer, &rate));
  }

  TEST_CASE("everything may be destroyed from another thread while a step runs") {
    auto* g = new Gated;
    mpt_status status = MPT_ERROR_INTERNAL;
    std::thread runner([&] { status = mpt_trainer_step(g->trainer, nullptr, 0, nullptr); });
    g->gate.wait();
    mpt_context_destroy(g->context);
    mpt_model_destroy(g->model);
    mpt_params_destroy(g->params);
    mpt_optimizer_destroy(g->optimizer);
    mpt_trainer_destroy(g->trainer);
    g->gate.open = true;
    runner.join();
    CHECK(status == MPT_OK);
    g->context = nullptr;
    g->model = nullptr;
    g->params = nullptr;
    g->optimizer = nullptr;
    g->trainer = nullptr;
    delete g;
  }

  TEST_CASE("cancelling from another thread ends the step before its update") {
    Gated g;
    mpt_status status = MPT_OK;
    std::thread runner([&] { status = mpt_trainer_step(g.trainer, nullptr, 0, nullptr); });
    g.gate.wait();
    MPT_OKAY(mpt_trainer_cancel(g.trainer));
    g.gate.open = true;
    runner.join();
    CHECK(status == MPT_ERROR_CANCELLED);
    mpt_step_result r;
    mpt_step_result_init(&r, sizeof r);
    MPT_OKAY(mpt_trainer_step(g.trainer, nullptr, 0, &r));
    CHECK(r.applied_steps == 1);
  }

  TEST_CASE("contexts train at the same time and give the bits of one alone") {
    constexpr int n = 4;
    std::vector<std::vector<float>> weights(n + 1);
    const auto train = [&](int i) {
      Settings s;
      s.precision = MPT_PRECISION_FP16;
      s.dropout = 0.1;
      Session session(s);
      for (uint32_t k = 0; k < 10; ++k) {
        Data data(32, k);
        session.step(data);
      }
      weights[static_cast<std::size_t>(i)] = session.all_weights();
    };
    train(n);
    std::vector<std::thread> threads;
    for (int i = 0; i < n; ++i) threads.emplace_back(train, i);
    for (std::thread& t : threads) t.join();
    for (int i = 0; i < n; ++i) CHECK(same_bits(weights[static_cast<std::size_t>(i)], weights[n]));
  }

  TEST_CASE("a progress callback may look and save, not step; its answer ends the call") {
    Callback callback;
    Settings s;
    s.tune_trainer = [&](mpt_trainer_options& o) {
      o.progress = Callback::call;
      o.progress_user = &callback;
    };
    Session session(s);
    callback.trainer = session.trainer;
    callback.optimizer = session.optimizer;
    Data data(8);
    CHECK(session.step(data).applied_steps == 1);
    CHECK(callback.getter == MPT_OK);
    CHECK(callback.save == MPT_OK);
    CHECK(callback.step == MPT_ERROR_INVALID_STATE);
    callback.answer = 1;
    mpt_step_result r;
    mpt_step_result_init(&r, sizeof r);
    CHECK(mpt_trainer_step(session.trainer, data.arrays, 2, &r) == MPT_ERROR_CANCELLED);
    CHECK(r.applied_steps == 2);  // the step itself is complete
    std::remove("callback_test.safetensors");
  }

  TEST_CASE("a forked child is refused") {
    Session session;
    Data data(8);
    session.step(data);
    const pid_t child = fork();
    if (child == 0) {
      const mpt_status status = mpt_trainer_step(session.trainer, data.arrays, 2, nullptr);
      _exit(status == MPT_ERROR_INVALID_STATE ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    session.step(data);
  }

  TEST_CASE("mistakes in a step are told and change nothing") {
    Session session;
    Data data(8);
    session.step(data);
    const std::vector<float> before = session.all_weights();
    const auto refused = [&](std::vector<mpt_array> inputs, const char* part) {
      CHECK(mpt_trainer_step(session.trainer, inputs.data(), static_cast<int32_t>(inputs.size()), nullptr) ==
            MPT_ERROR_INVALID_ARGUMENT);
      const std::string message = mpt_last_error_message();
      CAPTURE(message);
      CHECK(message.rfind("mpt_trainer_step: ", 0) == 0);
      CHECK(message.find(part) != std::string::npos);
    };
    const mpt_array x = data.arrays[0], y = data.arrays[1];
    refused({x}, "'y' is missing");
    refused({x, y, x}, "'x' is given twice");
    mpt_array other = x;
    other.name = "z";
    refused({x, y, other}, "no input 'z'");
    other = x;
    other.shape[1] = 7;
    refused({other, y}, "[8, 7]");
    other = y;
    other.shape[0] = 7;
    refused({x, other}, "'batch'");
    other.shape[0] = 0;
    refused({x, other}, "empty");
    other = y;
    other.dtype = MPT_FLOAT32;
    refused({x, other}, "float32");
    other = x;
    other.data = nullptr;
    refused({other, y}, "NULL");
    std::vector<int32_t> labels(8, 4);  // classes 0 to 3
    other = y;
    other.data = labels.data();
    refused({x, other}, "expected 0 to 3");
    std::vector<int64_t> wide(8, int64_t{1} << 40);
    other.data = wide.data();
    other.dtype = MPT_INT64;
    refused({x, other}, "1099511627776");
    CHECK(same_bits(before, session.all_weights()));
    CHECK(session.step(data).applied_steps == 2);
  }
}
