// Whole models through the C API: a transformer with tied weights, ops of the user's own, precision overrides, two objectives,
// and how mistakes in building are told.
#include <cmath>
#include <string>
#include <vector>

#include "session.h"

using namespace e2e;

namespace {

// Everything that is destroyed at the end of a test; the order doesn't matter.
struct Handles {
  mpt_context* context = nullptr;
  mpt_model* model = nullptr;
  mpt_params* params = nullptr;
  std::vector<mpt_optimizer*> optimizers;
  std::vector<mpt_trainer*> trainers;

  explicit Handles(uint64_t seed = 3) {
    mpt_context_options co;
    mpt_context_options_init(&co, sizeof co);
    co.seed = seed;
    const std::string device = e2e::device();
    co.device = device.c_str();
    MPT_OKAY(mpt_context_create(&context, &co));
    MPT_OKAY(mpt_model_create(&model, context));
  }
  ~Handles() {
    mpt_context_destroy(context);
    mpt_model_destroy(model);
    mpt_params_destroy(params);
    for (mpt_optimizer* o : optimizers) mpt_optimizer_destroy(o);
    for (mpt_trainer* t : trainers) mpt_trainer_destroy(t);
  }
  void make_params(mpt_precision precision) {
    mpt_params_options po;
    mpt_params_options_init(&po, sizeof po);
    po.precision = precision;
    MPT_OKAY(mpt_params_create(&params, model, &po));
  }
  mpt_optimizer* make_optimizer(const char* pattern = nullptr, double rate = 0.01) {
    mpt_optimizer_options oo;
    mpt_optimizer_options_init(&oo, sizeof oo);
    oo.learning_rate = rate;
    oo.pattern = pattern;
    mpt_optimizer* optimizer = nullptr;
    MPT_OKAY(mpt_optimizer_create(&optimizer, params, &oo));
    optimizers.push_back(optimizer);
    return optimizer;
  }
  mpt_trainer* make_trainer(mpt_tensor loss, mpt_optimizer* optimizer) {
    mpt_trainer* trainer = nullptr;
    MPT_OKAY(mpt_trainer_create(&trainer, loss, params, optimizer, nullptr, nullptr));
    trainers.push_back(trainer);
    return trainer;
  }
};

mpt_array array_of(const char* name, void* data, mpt_dtype dtype, std::vector<int64_t> shape) {
  mpt_array out{};
  out.name = name;
  out.data = data;
  out.dtype = dtype;
  out.rank = static_cast<int32_t>(shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) out.shape[i] = shape[i];
  return out;
}

double step_loss(mpt_trainer* trainer, const std::vector<mpt_array>& inputs) {
  mpt_step_result r;
  mpt_step_result_init(&r, sizeof r);
  MPT_OKAY(mpt_trainer_step(trainer, inputs.data(), static_cast<int32_t>(inputs.size()), &r));
  CHECK(r.skipped == 0);
  return r.loss;
}

int32_t cube_forward(void*, const mpt_array* in, int32_t, mpt_array* out, int32_t, void*, void*) {
  if (in[0].dtype != MPT_FLOAT32) return 1;  // the op asks for FP32 outputs; its input's type is what x has
  const auto* x = static_cast<const float*>(in[0].data);
  auto* y = static_cast<float*>(out[0].data);
  for (int64_t i = 0; i < in[0].shape[0] * in[0].shape[1]; ++i) y[i] = x[i] * x[i] * x[i];
  return 0;
}

int32_t cube_backward(void*, const mpt_array* in, int32_t, const mpt_array*, const mpt_array* dout, int32_t,
                      mpt_array* din, void*, void*) {
  const auto* x = static_cast<const float*>(in[0].data);
  const auto* dy = static_cast<const float*>(dout[0].data);
  auto* dx = static_cast<float*>(din[0].data);
  for (int64_t i = 0; i < in[0].shape[0] * in[0].shape[1]; ++i) dx[i] = 3 * x[i] * x[i] * dy[i];
  return 0;
}

int32_t refuse(void*, const mpt_array*, int32_t, mpt_array*, int32_t, void*, void*) { return 42; }

}  // namespace

TEST_SUITE("end_to_end.models") {
  TEST_CASE("a transformer with tied weights learns a sequence in every precision") {
    constexpr int64_t B = 4, T = 12, V = 17, C = 16;
    for (mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16, MPT_PRECISION_BF16}) {
      CAPTURE(name_of(precision));
      Handles h;
      mpt_model* m = h.model;
      const int64_t batch = mpt_model_dim(m, "batch"), time = mpt_model_dim(m, "time"), shape[] = {batch, time};
      const mpt_tensor tokens = mpt_input(m, "tokens", MPT_INT32, 2, shape);
      const mpt_tensor targets = mpt_input(m, "targets", MPT_INT32, 2, shape);
      mpt_embedding_options eo;
      mpt_embedding_options_init(&eo, sizeof eo);
      eo.b = 0.3;
      mpt_tensor x = mpt_embedding(m, "tok", tokens, V, C, &eo);
      mpt_attention_options ao;
      mpt_attention_options_init(&ao, sizeof ao);
      ao.causal = 1;
      for (const char* block : {"block0", "block1"}) {
        const std::string name = block;
        mpt_tensor n = mpt_layer_norm(m, (name + ".norm1").c_str(), x, nullptr);
        x = mpt_add(m, x, mpt_multi_head_attention(m, (name + ".attention").c_str(), n, 2, &ao, nullptr));
        n = mpt_rms_norm(m, (name + ".norm2").c_str(), x, nullptr);
        n = mpt_gelu_tanh(m, mpt_linear(m, (name + ".up").c_str(), n, 4 * C, nullptr));
        x = mpt_add(m, x, mpt_dropout(m, mpt_linear(m, (name + ".down").c_str(), n, C, nullptr), 0.05));
      }
      x = mpt_layer_norm(m, "norm", x, nullptr);
      const mpt_tensor logits = mpt_matmul(m, x, mpt_model_param(m, "tok.weight"), 0, 1);
      const mpt_tensor loss = mpt_cross_entropy(m, logits, targets, nullptr);
      MPT_OKAY(mpt_model_check(m));
      h.make_params(precision);
      mpt_trainer* t = h.make_trainer(loss, h.make_optimizer());
      std::vector<int32_t> a(B * T), b(B * T);
      for (int64_t i = 0; i < B * T; ++i) {
        a[i] = static_cast<int32_t>((i * 5 + i / T) % V);
        b[i] = static_cast<int32_t>(((i + 1) * 5 + i / T) % V);
      }
      const std::vector<mpt_array> in = {array_of("tokens", a.data(), MPT_INT32, {B, T}),
                                         array_of("targets", b.data(), MPT_INT32, {B, T})};
      const double first = step_loss(t, in);
      double last = 0;
      for (int i = 0; i < 60; ++i) last = step_loss(t, in);
      CHECK(last < 0.3 * first);
    }
  }

  TEST_CASE("an op of the user's own is differentiated with the user's function") {
    if (!host_reads_device()) return;  // the functions are the host's
    for (mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16}) {
      Handles h;
      const int64_t shape[] = {3, 4};
      mpt_param_options wo;
      mpt_param_options_init(&wo, sizeof wo);
      wo.initializer = MPT_INIT_CONSTANT;
      wo.a = 0.5;
      wo.keep_fp32 = 1;
      const mpt_tensor w = mpt_param(h.model, "w", 2, shape, &wo);
      mpt_custom_options co;
      mpt_custom_options_init(&co, sizeof co);
      co.name = "cube";
      co.forward = cube_forward;
      co.backward = cube_backward;
      co.fp32 = 1;
      co.scratch_bytes = 100;
      const int32_t rank = 2;
      mpt_tensor y = 0;
      CHECK(mpt_custom(h.model, 1, &w, 1, &rank, shape, &co, &y) == y);
      const mpt_tensor loss = mpt_sum(h.model, y, 0, nullptr, 0);
      h.make_params(precision);
      mpt_trainer* t = h.make_trainer(loss, h.make_optimizer());
      double value = 0;
      MPT_OKAY(mpt_trainer_backward(t, nullptr, 0, &value));
      CHECK(value == doctest::Approx(12 * 0.125));
      std::vector<float> g(12);
      const mpt_array out = array_of(nullptr, g.data(), MPT_FLOAT32, {3, 4});
      MPT_OKAY(mpt_params_get(h.params, "w", MPT_PART_GRADIENT, &out));
      for (float v : g) CHECK(v == 0.75f);  // 3 x^2, unscaled
      mpt_step_result r;
      mpt_step_result_init(&r, sizeof r);
      MPT_OKAY(mpt_trainer_update(t, &r));
    }
  }

  TEST_CASE("an op of the user's own that fails, fails the step and changes nothing") {
    Handles h;
    const int64_t shape[] = {2, 2};
    const mpt_tensor w = mpt_param(h.model, "w", 2, shape, nullptr);
    mpt_custom_options co;
    mpt_custom_options_init(&co, sizeof co);
    co.name = "stubborn";
    co.forward = refuse;
    const int32_t rank = 2;
    mpt_tensor y = 0;
    mpt_custom(h.model, 1, &w, 1, &rank, shape, &co, &y);
    const mpt_tensor loss = mpt_sum(h.model, mpt_mul(h.model, y, w), 0, nullptr, 0);
    h.make_params(MPT_PRECISION_FP32);
    mpt_trainer* t = h.make_trainer(loss, h.make_optimizer());
    CHECK(mpt_trainer_step(t, nullptr, 0, nullptr) == MPT_ERROR_INVALID_STATE);
    const std::string message = mpt_last_error_message();
    CHECK(message.find("stubborn") != std::string::npos);
    CHECK(message.find("42") != std::string::npos);
  }

  TEST_CASE("an override keeps an op's output in FP32") {
    Handles h;
    const int64_t shape[] = {4};
    const mpt_tensor x = mpt_input(h.model, "x", MPT_FLOAT32, 1, shape);
    const mpt_tensor y = mpt_model_set_name(h.model, mpt_scale(h.model, x, 1000, 0), "big");
    const mpt_tensor z = mpt_model_set_name(h.model, mpt_scale(h.model, y, 0.001, 0), "back");
    CHECK(z != 0);
    MPT_OKAY(mpt_model_set_op_dtype(h.model, "scale_1", MPT_FLOAT32));
    h.make_params(MPT_PRECISION_FP16);
    mpt_trainer* t = h.make_trainer(mpt_sum(h.model, z, 0, nullptr, 0), nullptr);
    std::vector<float> in = {1, 50, 100, 1000}, big(4), back(4);
    const std::vector<mpt_array> inputs = {array_of("x", in.data(), MPT_FLOAT32, {4})};
    const std::vector<mpt_array> outputs = {array_of("big", big.data(), MPT_FLOAT32, {4}),
                                            array_of("back", back.data(), MPT_FLOAT32, {4})};
    MPT_OKAY(mpt_trainer_predict(t, inputs.data(), 1, outputs.data(), 2));
    CHECK(big[3] == 1e6f);  // beyond FP16
    CHECK(back[3] == doctest::Approx(1000).epsilon(1e-3));
    CHECK(mpt_model_set_op_dtype(h.model, "no such op", MPT_FLOAT32) == MPT_ERROR_INVALID_ARGUMENT);
  }

  TEST_CASE("two objectives with optimizers of their own train their parts") {
    Handles h;
    const int64_t shape[] = {8};
    const mpt_tensor target = mpt_input(h.model, "target", MPT_FLOAT32, 1, shape);
    const mpt_tensor a = mpt_param(h.model, "a", 1, shape, nullptr), b = mpt_param(h.model, "b", 1, shape, nullptr);
    const mpt_tensor loss_a = mpt_mse_loss(h.model, a, target, nullptr);
    // b follows a, and a doesn't see it.
    const mpt_tensor loss_b = mpt_mse_loss(h.model, b, mpt_stop_gradient(h.model, a), nullptr);
    h.make_params(MPT_PRECISION_FP16);
    mpt_optimizer* for_a = h.make_optimizer("a", 0.05);
    mpt_optimizer* for_b = h.make_optimizer("b", 0.05);
    mpt_trainer* t = h.make_trainer(loss_a, for_a);
    MPT_OKAY(mpt_trainer_add_objective(t, loss_b, for_b, nullptr));
    std::vector<float> values(8, 1.0f);
    const std::vector<mpt_array> in = {array_of("target", values.data(), MPT_FLOAT32, {8})};
    for (int i = 0; i < 100; ++i) step_loss(t, in);
    mpt_step_result r;
    mpt_step_result_init(&r, sizeof r);
    MPT_OKAY(mpt_trainer_objective_result(t, 0, &r));
    CHECK(r.loss < 0.01);
    MPT_OKAY(mpt_trainer_objective_result(t, 1, &r));
    CHECK(r.loss < 0.02);
    CHECK(r.applied_steps == 100);
    CHECK(mpt_trainer_objective_result(t, 2, &r) == MPT_ERROR_INVALID_ARGUMENT);
  }

  TEST_CASE("a mistake in building is kept, named with op and shapes, and can be cleared") {
    Handles h;
    const int64_t a_shape[] = {32, 10}, b_shape[] = {12, 4};
    const mpt_tensor a = mpt_input(h.model, "a", MPT_FLOAT32, 2, a_shape),
                     b = mpt_input(h.model, "b", MPT_FLOAT32, 2, b_shape);
    const mpt_tensor wrong = mpt_matmul(h.model, a, b, 0, 0);
    CHECK(wrong == 0);
    CHECK(mpt_relu(h.model, wrong) == 0);  // passes through silently
    CHECK(mpt_model_check(h.model) == MPT_ERROR_INVALID_ARGUMENT);
    const std::string message = mpt_last_error_message();
    for (const char* part : {"matmul", "'a' [32, 10]", "'b' [12, 4]", "10", "12"})
      CHECK(message.find(part) != std::string::npos);
    mpt_params* params = nullptr;
    CHECK(mpt_params_create(&params, h.model, nullptr) == MPT_ERROR_INVALID_ARGUMENT);
    CHECK(params == nullptr);
    MPT_OKAY(mpt_model_clear_error(h.model));
    CHECK(mpt_matmul(h.model, a, b, 0, 0) == 0);
    MPT_OKAY(mpt_model_clear_error(h.model));
    CHECK(mpt_relu(h.model, a) != 0);
    MPT_OKAY(mpt_model_check(h.model));
  }

  TEST_CASE("a conflict that names had hidden is told with op and shapes when the model is compiled") {
    Handles h;
    const int64_t first[] = {mpt_model_dim(h.model, "n")}, second[] = {mpt_model_dim(h.model, "k")};
    const mpt_tensor a = mpt_input(h.model, "a", MPT_FLOAT32, 1, first),
                     b = mpt_input(h.model, "b", MPT_FLOAT32, 1, second);
    const mpt_tensor sum = mpt_sum(h.model, mpt_add(h.model, a, b), 0, nullptr, 0);
    MPT_OKAY(mpt_model_check(h.model));
    h.make_params(MPT_PRECISION_FP32);
    mpt_trainer* t = h.make_trainer(sum, nullptr);
    std::vector<float> values(8, 1.0f);
    std::vector<mpt_array> in = {array_of("a", values.data(), MPT_FLOAT32, {5}),
                                 array_of("b", values.data(), MPT_FLOAT32, {6})};
    double loss = 0;
    CHECK(mpt_trainer_evaluate(t, in.data(), 2, 0, &loss) == MPT_ERROR_INVALID_ARGUMENT);
    const std::string message = mpt_last_error_message();
    for (const char* part : {"add", "[5]", "[6]"}) CHECK(message.find(part) != std::string::npos);
    in[1].shape[0] = 5;
    MPT_OKAY(mpt_trainer_evaluate(t, in.data(), 2, 0, &loss));
    CHECK(loss == 10);
  }

  TEST_CASE("uint8 pictures are normalised with mean and std") {
    Handles h;
    const int64_t shape[] = {mpt_model_dim(h.model, "batch"), 2, 3};
    const mpt_tensor x = mpt_input(h.model, "picture", MPT_FLOAT32, 3, shape);
    const float mean[] = {100, 50}, std[] = {10, 25};
    MPT_OKAY(mpt_input_normalize(h.model, x, 1, 2, mean, std));
    const mpt_tensor out = mpt_model_set_name(h.model, mpt_scale(h.model, x, 1, 0), "out");
    h.make_params(MPT_PRECISION_FP32);
    mpt_trainer* t = h.make_trainer(mpt_sum(h.model, out, 0, nullptr, 0), nullptr);
    std::vector<uint8_t> pixels = {100, 110, 90, 50, 75, 0};
    std::vector<float> found(6);
    const std::vector<mpt_array> in = {array_of("picture", pixels.data(), MPT_UINT8, {1, 2, 3})};
    const std::vector<mpt_array> outputs = {array_of("out", found.data(), MPT_FLOAT32, {1, 2, 3})};
    MPT_OKAY(mpt_trainer_predict(t, in.data(), 1, outputs.data(), 1));
    CHECK(found == std::vector<float>{0, 1, -1, 0, 1, -2});
  }
}
