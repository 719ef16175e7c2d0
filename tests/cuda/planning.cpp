// TEST_CASEs: a training step of a size that few machines have, planned for CUDA on a machine without a device.
#include <doctest/doctest.h>

#include <string>

#include "backend/cuda/backend.h"
#include "mpt.h"
#include "runtime/devices.h"

namespace mpt::test {
namespace {

constexpr int64_t vocabulary = 50304, width = 768, layers = 12, heads = 12, context_length = 1024, batch = 32;

mpt_tensor gpt2_small(mpt_model* model) {
  const int64_t tokens[] = {batch, context_length}, positions[] = {context_length, width};
  const mpt_tensor x = mpt_input(model, "x", MPT_INT32, 2, tokens), y = mpt_input(model, "y", MPT_INT32, 2, tokens);
  mpt_attention_options attention;
  mpt_attention_options_init(&attention, sizeof attention);
  attention.causal = 1;
  mpt_tensor h = mpt_embedding(model, "token", x, vocabulary, width, nullptr);
  h = mpt_add(model, h, mpt_param(model, "position", 2, positions, nullptr));
  for (int64_t i = 0; i < layers; ++i) {
    const std::string block = "block" + std::to_string(i) + ".";
    const auto name = [&](const char* part) { return block + part; };
    mpt_tensor n = mpt_layer_norm(model, name("norm1").c_str(), h, nullptr);
    h = mpt_add(model, h, mpt_multi_head_attention(model, name("attention").c_str(), n, heads, &attention, nullptr));
    n = mpt_layer_norm(model, name("norm2").c_str(), h, nullptr);
    n = mpt_gelu_tanh(model, mpt_linear(model, name("fc1").c_str(), n, 4 * width, nullptr));
    h = mpt_add(model, h, mpt_linear(model, name("fc2").c_str(), n, width, nullptr));
  }
  h = mpt_layer_norm(model, "norm", h, nullptr);
  mpt_linear_options head;
  mpt_linear_options_init(&head, sizeof head);
  head.bias = 0;
  return mpt_cross_entropy(model, mpt_linear(model, "head", h, vocabulary, &head), y, nullptr);
}

mpt_memory_report planned(mpt_precision precision) {
  mpt_context_options options;
  mpt_context_options_init(&options, sizeof options);
  options.device = "null:planning";
  mpt_context* context = nullptr;
  REQUIRE(mpt_context_create(&context, &options) == MPT_OK);
  mpt_model* model = nullptr;
  REQUIRE(mpt_model_create(&model, context) == MPT_OK);
  const mpt_tensor loss = gpt2_small(model);
  mpt_params_options params_options;
  mpt_params_options_init(&params_options, sizeof params_options);
  params_options.precision = precision;
  mpt_params* params = nullptr;
  REQUIRE_MESSAGE(mpt_params_create(&params, model, &params_options) == MPT_OK, std::string(mpt_last_error_message()));
  mpt_optimizer* optimizer = nullptr;
  REQUIRE(mpt_optimizer_create(&optimizer, params, nullptr) == MPT_OK);
  mpt_plan_options plan_options;
  mpt_plan_options_init(&plan_options, sizeof plan_options);
  plan_options.optimizer = optimizer;
  mpt_plan* plan = nullptr;
  REQUIRE_MESSAGE(mpt_plan_create(&plan, params, 1, &loss, 0, nullptr, nullptr, &plan_options) == MPT_OK,
                  std::string(mpt_last_error_message()));
  mpt_memory_report report;
  mpt_memory_report_init(&report, sizeof report);
  REQUIRE(mpt_plan_memory(plan, &report) == MPT_OK);
  mpt_plan_destroy(plan);
  mpt_optimizer_destroy(optimizer);
  mpt_params_destroy(params);
  mpt_model_destroy(model);
  mpt_context_destroy(context);
  return report;
}

TEST_CASE("planning: GPT-2 small at 32 x 1,024 tokens for CUDA, without a device") {
  register_device("planning", [](const BackendOptions&, int) { return cuda::make_backend(cuda::make_planning()); });
  // Embedding and head apart, as everywhere here.
  constexpr uint64_t per_layer = 12 * width * width + 13 * width;
  constexpr uint64_t parameters = 2 * vocabulary * width + context_length * width + layers * per_layer + 2 * width;
  const mpt_memory_report fp16 = planned(MPT_PRECISION_FP16), fp32 = planned(MPT_PRECISION_FP32);
  CHECK(fp16.master == doctest::Approx(4.0 * parameters).epsilon(1e-4));  // padded to 64 bytes a tensor
  CHECK(fp16.optimizer == doctest::Approx(8.0 * parameters).epsilon(1e-4));
  CHECK(fp32.copy16 == 0);
  CHECK(fp16.fp32_activations == fp32.activations);
  CHECK(fp16.total == fp16.master + fp16.copy16 + fp16.gradients + fp16.optimizer + fp16.activations + fp16.scratch);
  CHECK(static_cast<double>(fp16.activations) <= 0.52 * static_cast<double>(fp32.activations));
  CHECK(fp16.scratch > 0);
  MESSAGE("fp16: activations ", fp16.activations / 1000000, " MB, scratch ", fp16.scratch / 1000000, " MB, in all ",
          fp16.total / 1000000, " MB; fp32: activations ", fp32.activations / 1000000, " MB, scratch ",
          fp32.scratch / 1000000, " MB, in all ", fp32.total / 1000000, " MB");
}

}  // namespace
}  // namespace mpt::test
