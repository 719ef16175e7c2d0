// mpt_cuda.h: arrays in the memory of the context's device, and its stream. Where the device is the CPU they are refused.
#include "mpt_cuda.h"

#include <cmath>

#include "end_to_end/session.h"

using namespace e2e;

namespace {

// Memory of a context's device that the test can fill and read: a parameter store of its own.
class Memory {
 public:
  Memory(mpt_context* context, std::vector<int64_t> shape, mpt_precision precision = MPT_PRECISION_FP32) {
    mpt_params_options options;
    mpt_params_options_init(&options, sizeof options);
    options.precision = precision;
    MPT_OKAY(mpt_params_create_empty(&store_, context, &options));
    MPT_OKAY(mpt_params_register(store_, "m", static_cast<int32_t>(shape.size()), shape.data(), nullptr));
    MPT_OKAY(mpt_params_allocate(store_));
  }
  ~Memory() { mpt_params_destroy(store_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  mpt_array array(const char* name, int32_t part = MPT_PART_MASTER) const {
    mpt_array array;
    MPT_OKAY(mpt_params_tensor(store_, "m", part, &array));
    array.name = name;
    return array;
  }
  void write(const std::vector<float>& values) const {
    mpt_array from = on_host(const_cast<float*>(values.data()));
    MPT_OKAY(mpt_params_set(store_, "m", &from));
  }
  std::vector<float> read() const {
    const mpt_array there = array("m");
    std::size_t count = 1;
    for (int i = 0; i < there.rank; ++i) count *= static_cast<std::size_t>(there.shape[i]);
    std::vector<float> values(count);
    const mpt_array to = on_host(values.data());
    MPT_OKAY(mpt_params_get(store_, "m", MPT_PART_MASTER, &to));
    return values;
  }

 private:
  mpt_array on_host(float* data) const {
    mpt_array host = array("m");
    host.data = data;
    host.dtype = MPT_FLOAT32;
    host.device_type = MPT_DEVICE_CPU;
    host.device_index = 0;
    return host;
  }
  mpt_params* store_ = nullptr;
};

}  // namespace

TEST_SUITE("device arrays") {
  TEST_CASE("inputs in the device's memory give the bits of inputs on the host") {
    for (const mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16}) {
      Settings s;
      s.precision = precision;
      Session host(s), device(s);
      Data data(16);
      const Memory x(device.context, {16, 8});
      x.write(data.x);
      mpt_array inputs[] = {x.array("x"), data.arrays[1]};
      for (int i = 0; i < 5; ++i) {
        const mpt_step_result expected = host.step(data);
        mpt_step_result r;
        mpt_step_result_init(&r, sizeof r);
        MPT_OKAY(mpt_trainer_step(device.trainer, inputs, 2, &r));
        CHECK(r.loss == expected.loss);
      }
      CHECK(same_bits(host.all_weights(), device.all_weights()));
      double on_host = 0, on_device = 0;
      MPT_OKAY(mpt_trainer_evaluate(host.trainer, data.arrays, 2, 0, &on_host));
      MPT_OKAY(mpt_trainer_evaluate(device.trainer, inputs, 2, 0, &on_device));
      CHECK(on_host == on_device);
    }
  }

  TEST_CASE("strides are heeded, and 16-bit inputs widened") {
    Settings s;
    Session plain(s), strided(s);
    Data data(16);
    for (float& v : data.x) v = std::nearbyint(v * 64) / 64;  // FP16 holds them
    // The same rows, transposed in a 16-bit copy.
    std::vector<float> transposed(data.x.size());
    for (int64_t row = 0; row < 16; ++row)
      for (int64_t column = 0; column < 8; ++column) transposed[column * 16 + row] = data.x[row * 8 + column];
    const Memory x(strided.context, {8, 16}, MPT_PRECISION_FP16);
    x.write(transposed);
    mpt_array inputs[] = {x.array("x", MPT_PART_COPY16), data.arrays[1]};
    CHECK(inputs[0].dtype == MPT_FLOAT16);
    inputs[0].shape[0] = 16;
    inputs[0].shape[1] = 8;
    inputs[0].strides[0] = 1;
    inputs[0].strides[1] = 16;
    const mpt_step_result expected = plain.step(data);
    mpt_step_result r;
    mpt_step_result_init(&r, sizeof r);
    MPT_OKAY(mpt_trainer_step(strided.trainer, inputs, 2, &r));
    CHECK(r.loss == expected.loss);
  }

  TEST_CASE("outputs and parameters go to and come from the device's memory") {
    Session session;
    Data data(16);
    session.step(data);
    std::vector<float> expected(16 * 4);
    mpt_array out{};
    out.name = "logits";
    out.data = expected.data();
    out.dtype = MPT_FLOAT32;
    out.rank = 2;
    out.shape[0] = 16;
    out.shape[1] = 4;
    MPT_OKAY(mpt_trainer_predict(session.trainer, data.arrays, 1, &out, 1));
    const Memory logits(session.context, {16, 4});
    const mpt_array there = logits.array("logits");
    MPT_OKAY(mpt_trainer_predict(session.trainer, data.arrays, 1, &there, 1));
    CHECK(same_bits(expected, logits.read()));

    const Memory weight(session.context, {4, 16});
    mpt_array copy = weight.array("fc2.weight");
    MPT_OKAY(mpt_params_get(session.params, "fc2.weight", MPT_PART_MASTER, &copy));
    CHECK(same_bits(weight.read(), session.weights("fc2.weight")));
    weight.write(std::vector<float>(4 * 16, 0.25f));
    MPT_OKAY(mpt_params_set(session.params, "fc2.weight", &copy));
    CHECK(session.weights("fc2.weight") == std::vector<float>(4 * 16, 0.25f));
  }

  TEST_CASE("an array of another device is refused, with both told") {
    Session session;
    Data data(16);
    data.arrays[0].device_type = MPT_DEVICE_CUDA;
    data.arrays[0].device_index = 7;
    CHECK(mpt_trainer_step(session.trainer, data.arrays, 2, nullptr) == MPT_ERROR_INVALID_ARGUMENT);
    const std::string message = mpt_last_error_message();
    CHECK(message.find("'x'") != std::string::npos);
    CHECK(message.find(host_reads_device() ? "MPT_DEVICE_CPU" : "device_index is 7") != std::string::npos);
    data.arrays[0].device_type = MPT_DEVICE_CPU;
    data.arrays[0].device_index = 0;
    CHECK(session.step(data).skipped == 0);
  }

  TEST_CASE("the stream is told where there is one") {
    Session session;
    void* stream = &stream;
    const mpt_status status = mpt_cuda_stream(session.context, &stream);
    CHECK(status == (host_reads_device() ? MPT_ERROR_INVALID_STATE : MPT_OK));
    CHECK((stream != nullptr) == !host_reads_device());
    CHECK(mpt_cuda_stream(session.context, nullptr) == MPT_ERROR_INVALID_ARGUMENT);
    CHECK(mpt_cuda_stream(nullptr, &stream) == MPT_ERROR_INVALID_ARGUMENT);
  }

  TEST_CASE("without CUDA its functions tell what is missing and leave nothing behind") {
    int32_t count = -1;
    if (mpt_cuda_device_count(&count) == MPT_OK && count > 0) return;
    mpt_context* context = reinterpret_cast<mpt_context*>(&count);
    CHECK(mpt_cuda_context_create(&context, nullptr, nullptr) == MPT_ERROR_UNSUPPORTED);
    CHECK(context == nullptr);
    CHECK(std::string(mpt_last_error_message()).rfind("mpt_cuda_context_create: ", 0) == 0);
    mpt_cuda_options options;
    MPT_OKAY(mpt_cuda_options_init(&options, sizeof options));
    options.device = -2;
    CHECK(mpt_cuda_context_create(&context, nullptr, &options) == MPT_ERROR_INVALID_ARGUMENT);
    CHECK(mpt_cuda_device_count(nullptr) == MPT_ERROR_INVALID_ARGUMENT);
  }
}
