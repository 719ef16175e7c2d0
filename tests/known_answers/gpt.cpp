// Twenty training steps of a small GPT through the public interface against JAX and optax in double: gpt.py.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "end_to_end/session.h"
#include "io/safetensors.h"

using namespace mpt;

namespace {

constexpr int64_t batch = 4, context_length = 16, vocabulary = 64, width = 32;
constexpr int heads = 4, layers = 2;

std::string path() {
  const char* folder = std::getenv("MPT_KNOWN_ANSWERS");
  return std::string(folder != nullptr ? folder : ".") + "/gpt.safetensors";
}

template <typename T>
std::vector<T> read(const SafetensorsFile& file, const std::string& name) {
  const TensorEntry* entry = file.find(name);
  REQUIRE_MESSAGE(entry != nullptr, name);
  std::vector<T> values(entry->bytes() / sizeof(T));
  file.read(*entry, 0, values.data(), entry->bytes());
  return values;
}

double number(const SafetensorsFile& file, const std::string& key) {
  return std::strtod(file.metadata().at(key).c_str(), nullptr);
}

mpt_tensor build(mpt_model* m) {
  const int64_t shape[] = {batch, context_length}, positions[] = {context_length, width};
  const mpt_tensor x = mpt_input(m, "x", MPT_INT32, 2, shape), y = mpt_input(m, "y", MPT_INT32, 2, shape);
  mpt_attention_options attention;
  mpt_attention_options_init(&attention, sizeof attention);
  attention.causal = 1;
  mpt_linear_options head;
  mpt_linear_options_init(&head, sizeof head);
  head.bias = 0;
  mpt_tensor h = mpt_embedding(m, "byte", x, vocabulary, width, nullptr);
  h = mpt_add(m, h, mpt_param(m, "position.weight", 2, positions, nullptr));
  for (int i = 0; i < layers; ++i) {
    const std::string block = "block" + std::to_string(i) + ".";
    mpt_tensor inner = mpt_layer_norm(m, (block + "norm1").c_str(), h, nullptr);
    h = mpt_add(m, h, mpt_multi_head_attention(m, (block + "attn").c_str(), inner, heads, &attention, nullptr));
    inner = mpt_linear(m, (block + "fc1").c_str(), mpt_layer_norm(m, (block + "norm2").c_str(), h, nullptr), 4 * width,
                       nullptr);
    h = mpt_add(m, h, mpt_linear(m, (block + "fc2").c_str(), mpt_gelu_tanh(m, inner), width, nullptr));
  }
  return mpt_cross_entropy(m, mpt_linear(m, "head", mpt_layer_norm(m, "norm", h, nullptr), vocabulary, &head), y,
                           nullptr);
}

// Held to 1e-5 of the tensor's greatest element. Between the loss and a gradient lie a few dozen roundings a layer
// and sums of at most 128 terms, each an error of 2^-24 of what is summed: if all of about 160 went the same way they
// would add up to 1e-5; as they fall, to about 13 * 2^-24 = 8e-7 =: d. An update of AdamW amplifies an error of its
// gradient by at most learning rate / epsilon = 30 (where the gradient is near 0; that is why epsilon is 1e-4): with
// the greatest gradient G = 0.12 a weight is off by 30 d G = 3e-6 after a step at worst; most elements have v far
// above epsilon^2, a tenth of it. The signs of 20 steps are random, so sqrt(20) of that stays at about 1e-6, beside
// 2^-24 |w| a step for the weight's own rounding.
void check_close(const std::vector<float>& found, const std::vector<double>& expected, const std::string& what) {
  REQUIRE(found.size() == expected.size());
  double greatest = 0;
  for (double v : expected) greatest = std::fmax(greatest, std::fabs(v));
  for (std::size_t i = 0; i < found.size(); ++i)
    CHECK_MESSAGE(std::fabs(found[i] - expected[i]) <= 1e-5 * greatest, what, " element ", i, ": found ", found[i],
                  ", expected ", expected[i]);
}

struct Run {
  mpt_context* context = nullptr;
  mpt_model* model = nullptr;
  mpt_params* params = nullptr;
  mpt_optimizer* optimizer = nullptr;
  mpt_trainer* trainer = nullptr;

  explicit Run(const SafetensorsFile& file) {
    mpt_context_options co;
    mpt_context_options_init(&co, sizeof co);
    co.threads = 2;
    MPT_OKAY(mpt_context_create(&context, &co));
    MPT_OKAY(mpt_model_create(&model, context));
    const mpt_tensor loss = build(model);
    MPT_OKAY(mpt_params_create(&params, model, nullptr));
    mpt_load_options lo;
    mpt_load_options_init(&lo, sizeof lo);
    lo.allow_unexpected = 1;  // the answers
    MPT_OKAY(mpt_params_load(params, path().c_str(), &lo));
    mpt_optimizer_options oo;
    mpt_optimizer_options_init(&oo, sizeof oo);
    oo.learning_rate = number(file, "learning_rate");
    oo.epsilon = number(file, "epsilon");
    oo.weight_decay = number(file, "weight_decay");
    MPT_OKAY(mpt_optimizer_create(&optimizer, params, &oo));
    MPT_OKAY(mpt_trainer_create(&trainer, loss, params, optimizer, nullptr, nullptr));
  }
  ~Run() {
    mpt_trainer_destroy(trainer);
    mpt_optimizer_destroy(optimizer);
    mpt_params_destroy(params);
    mpt_model_destroy(model);
    mpt_context_destroy(context);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  double step(const std::vector<int32_t>& x, const std::vector<int32_t>& y, std::size_t index) {
    const std::size_t offset = index * batch * context_length;
    mpt_array arrays[2] = {};
    arrays[0].name = "x";
    arrays[0].data = const_cast<int32_t*>(x.data() + offset);
    arrays[1].name = "y";
    arrays[1].data = const_cast<int32_t*>(y.data() + offset);
    for (mpt_array& array : arrays) {
      array.dtype = MPT_INT32;
      array.rank = 2;
      array.shape[0] = batch;
      array.shape[1] = context_length;
    }
    mpt_step_result result;
    mpt_step_result_init(&result, sizeof result);
    MPT_OKAY(mpt_trainer_step(trainer, arrays, 2, &result));
    CHECK(result.skipped == 0);
    return result.loss;
  }

  std::vector<float> part(const char* name, int32_t which) const {
    mpt_array array;
    MPT_OKAY(mpt_params_tensor(params, name, which, &array));
    std::size_t count = 1;
    for (int i = 0; i < array.rank; ++i) count *= static_cast<std::size_t>(array.shape[i]);
    std::vector<float> values(count);
    array.data = values.data();
    MPT_OKAY(mpt_params_get(params, name, which, &array));
    return values;
  }

  void check_all(const SafetensorsFile& file, const std::string& prefix, int32_t which) const {
    for (int32_t i = 0; i < mpt_params_count(params); ++i) {
      const char* name = mpt_params_name(params, i);
      check_close(part(name, which), read<double>(file, prefix + name), prefix + name);
    }
  }
};

}  // namespace

TEST_CASE("a GPT follows JAX for 20 steps") {
  if (!std::ifstream(path())) {
    MESSAGE("SKIPPED: there is no ", path(), ": it takes a Python with jax and optax");
    return;
  }
  const SafetensorsFile file(path());
  const std::vector<int32_t> x = read<int32_t>(file, "x"), y = read<int32_t>(file, "y");
  const std::vector<double> losses = read<double>(file, "losses");
  REQUIRE(losses.size() == 20);
  REQUIRE(losses.back() < 0.9 * losses.front());  // it learns: an update that is left out would show
  Run run(file);
  REQUIRE(mpt_params_count(run.params) == 29);
  for (std::size_t step = 0; step < losses.size(); ++step) {
    const double loss = run.step(x, y, step);
    CHECK_MESSAGE(std::fabs(loss - losses[step]) <= 1e-5 * losses[step], "step ", step, ": found ", loss, ", expected ",
                  losses[step]);
    if (step == 0) run.check_all(file, "gradient.", MPT_PART_GRADIENT);
  }
  run.check_all(file, "final.", MPT_PART_MASTER);
}
