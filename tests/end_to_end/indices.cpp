// Labels and indices outside of what they pick from are refused wherever they come from: read as they are, they would be
// addresses outside of a tensor.
#include "session.h"

namespace {

// A trainer whose loss reads `labels` of two rows with three classes; what the first step says.
struct Labelled {
  mpt_context* context = nullptr;
  mpt_model* model = nullptr;
  mpt_params* params = nullptr;
  mpt_optimizer* optimizer = nullptr;
  mpt_trainer* trainer = nullptr;
  mpt_tensor x = 0;

  Labelled() {
    MPT_OKAY(mpt_context_create(&context, nullptr));
    MPT_OKAY(mpt_model_create(&model, context));
    const int64_t shape[] = {2, 4};
    x = mpt_input(model, "x", MPT_FLOAT32, 2, shape);
  }
  ~Labelled() {
    mpt_trainer_destroy(trainer);
    mpt_optimizer_destroy(optimizer);
    mpt_params_destroy(params);
    mpt_model_destroy(model);
    mpt_context_destroy(context);
  }
  mpt_tensor constant(const char* name, std::vector<int32_t> values) {
    mpt_array array{};
    array.name = name;
    array.data = values.data();
    array.dtype = MPT_INT32;
    array.rank = 1;
    array.shape[0] = static_cast<int64_t>(values.size());
    return mpt_constant(model, &array);
  }
  mpt_status step(mpt_tensor labels) {
    const mpt_tensor loss = mpt_cross_entropy(model, mpt_linear(model, "fc", x, 3, nullptr), labels, nullptr);
    MPT_OKAY(mpt_params_create(&params, model, nullptr));
    MPT_OKAY(mpt_optimizer_create(&optimizer, params, nullptr));
    MPT_OKAY(mpt_trainer_create(&trainer, loss, params, optimizer, nullptr, nullptr));
    float data[8] = {};
    mpt_array input{};
    input.name = "x";
    input.data = data;
    input.dtype = MPT_FLOAT32;
    input.rank = 2;
    input.shape[0] = 2;
    input.shape[1] = 4;
    return mpt_trainer_step(trainer, &input, 1, nullptr);
  }
};

std::string message() { return mpt_last_error_message(); }

}  // namespace

TEST_CASE("labels that are a constant") {
  SUBCASE("inside") {
    Labelled l;
    MPT_OKAY(l.step(l.constant("labels", {0, 2})));
  }
  SUBCASE("outside") {
    Labelled l;
    CHECK(l.step(l.constant("labels", {0, 1000000})) == MPT_ERROR_INVALID_ARGUMENT);
    CHECK(message().find("constant 'labels': element 1 is 1000000, expected 0 to 2") != std::string::npos);
  }
}

TEST_CASE("labels picked from a table of labels") {
  Labelled l;
  const mpt_tensor table = l.constant("table", {0, -1000000, 2});
  CHECK(l.step(mpt_gather(l.model, table, l.constant("rows", {0, 2}), 0)) == MPT_ERROR_INVALID_ARGUMENT);
  CHECK(message().find("constant 'table': element 1 is -1000000") != std::string::npos);
}

TEST_CASE("labels that padding adds") {
  Labelled l;
  SUBCASE("outside") {
    CHECK(l.step(mpt_pad(l.model, l.constant("labels", {1}), 0, 0, 1, 1000000)) == MPT_ERROR_INVALID_ARGUMENT);
    CHECK(message().find("is 1000000, expected 0 to 2") != std::string::npos);
  }
  SUBCASE("no integer") {
    CHECK(mpt_pad(l.model, l.constant("labels", {1}), 0, 0, 1, 0.5) == 0);
    CHECK(message() == "mpt_pad: value is 0.5, expected an integer that int32 holds");
  }
}

TEST_CASE("what an op keeps for its gradient is no tensor of the caller's") {
  Labelled l;
  const mpt_tensor loss =
      mpt_cross_entropy(l.model, mpt_linear(l.model, "fc", l.x, 3, nullptr), l.constant("labels", {0, 2}), nullptr);
  CHECK(mpt_sum(l.model, loss + 1, 0, nullptr, 0) == 0);
  CHECK(message() == "mpt_sum: a tensor argument is " + std::to_string(loss + 1) + ", which is no tensor of the model");
}
