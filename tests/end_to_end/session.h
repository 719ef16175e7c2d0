// A context, a small network and a trainer through the C API, for tests that train.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "mpt.h"
#if defined(MPT_HAVE_EMULATION)
#include "support/devices.h"
#endif

#define MPT_OKAY(call)                                                            \
  do {                                                                            \
    const mpt_status status_ = (call);                                            \
    CHECK_MESSAGE(status_ == MPT_OK, std::string(mpt_status_name(status_)), ": ", \
                  std::string(mpt_last_error_message()));                         \
  } while (0)

namespace e2e {

// The device that the tests run on, and whether the host can read its memory. Programs that stand on the shared library alone
// know no other than the CPU.
#if defined(MPT_HAVE_EMULATION)
inline std::string device() { return mpt::test::tested_device(); }
inline bool host_reads_device() { return mpt::test::host_reads_tested_device(); }
#else
inline std::string device() { return "cpu"; }
inline bool host_reads_device() { return true; }
#endif

// What a test wants to be different.
struct Settings {
  mpt_precision precision = MPT_PRECISION_FP32;
  bool no_master = false;
  int32_t threads = 2;
  uint64_t seed = 7;
  std::string device = e2e::device();
  const mpt_allocator* allocator = nullptr;
  double dropout = 0;
  mpt_optimizer_kind optimizer = MPT_ADAMW;
  std::function<void(mpt_optimizer_options&)> tune_optimizer;
  std::function<void(mpt_scaler_options&)> tune_scaler;
  std::function<void(mpt_trainer_options&)> tune_trainer;
  bool own_scaler = true;  // false: the trainer's own
};

// x [batch, 8] -> linear 16, layer norm, gelu, dropout, linear 4 -> cross-entropy with y [batch].
struct Session {
  mpt_context* context = nullptr;
  mpt_model* model = nullptr;
  mpt_params* params = nullptr;
  mpt_optimizer* optimizer = nullptr;
  mpt_scaler* scaler = nullptr;
  mpt_trainer* trainer = nullptr;
  mpt_tensor loss = 0, logits = 0, hidden = 0;

  explicit Session(const Settings& s = {}) {
    mpt_context_options co;
    mpt_context_options_init(&co, sizeof co);
    co.threads = s.threads;
    co.seed = s.seed;
    co.device = s.device.c_str();
    co.allocator = s.allocator;
    MPT_OKAY(mpt_context_create(&context, &co));
    MPT_OKAY(mpt_model_create(&model, context));
    const int64_t batch = mpt_model_dim(model, "batch"), xs[] = {batch, 8}, ys[] = {batch};
    const mpt_tensor x = mpt_input(model, "x", MPT_FLOAT32, 2, xs), y = mpt_input(model, "y", MPT_INT32, 1, ys);
    hidden = mpt_layer_norm(model, "norm", mpt_linear(model, "fc1", x, 16, nullptr), nullptr);
    hidden = mpt_model_set_name(model, mpt_gelu(model, hidden), "hidden");
    logits = mpt_linear(model, "fc2", mpt_dropout(model, hidden, s.dropout), 4, nullptr);
    mpt_model_set_name(model, logits, "logits");
    loss = mpt_cross_entropy(model, logits, y, nullptr);
    MPT_OKAY(mpt_model_check(model));
    mpt_params_options po;
    mpt_params_options_init(&po, sizeof po);
    po.precision = s.precision;
    po.no_master = s.no_master ? 1 : 0;
    MPT_OKAY(mpt_params_create(&params, model, &po));
    mpt_optimizer_options oo;
    mpt_optimizer_options_init_kind(&oo, sizeof oo, s.optimizer);
    oo.learning_rate = 0.01;
    if (s.tune_optimizer) s.tune_optimizer(oo);
    MPT_OKAY(mpt_optimizer_create(&optimizer, params, &oo));
    mpt_scaler_options so;
    mpt_scaler_options_init(&so, sizeof so);
    if (s.tune_scaler) s.tune_scaler(so);
    if (s.own_scaler) MPT_OKAY(mpt_scaler_create(&scaler, context, &so));
    mpt_trainer_options to;
    mpt_trainer_options_init(&to, sizeof to);
    if (s.tune_trainer) s.tune_trainer(to);
    MPT_OKAY(mpt_trainer_create(&trainer, loss, params, optimizer, scaler, &to));
  }
  ~Session() {
    mpt_trainer_destroy(trainer);
    mpt_scaler_destroy(scaler);
    mpt_optimizer_destroy(optimizer);
    mpt_params_destroy(params);
    mpt_model_destroy(model);
    mpt_context_destroy(context);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  mpt_step_result step(struct Data& data);
  std::vector<float> weights(const char* name) const {
    mpt_array part;
    MPT_OKAY(mpt_params_tensor(params, name, MPT_PART_MASTER, &part));
    int64_t count = 1;
    for (int i = 0; i < part.rank; ++i) count *= part.shape[i];
    std::vector<float> out(static_cast<std::size_t>(count));
    mpt_array to = part;
    to.data = out.data();
    to.dtype = MPT_FLOAT32;
    to.device_type = MPT_DEVICE_CPU;
    to.device_index = 0;
    MPT_OKAY(mpt_params_get(params, name, MPT_PART_MASTER, &to));
    return out;
  }
  std::vector<float> all_weights() const {
    std::vector<float> out;
    for (int32_t i = 0; i < mpt_params_count(params); ++i) {
      const std::vector<float> one = weights(mpt_params_name(params, i));
      out.insert(out.end(), one.begin(), one.end());
    }
    return out;
  }
};

// A batch whose labels follow from x, so that there is something to learn; a function of `seed` alone.
struct Data {
  std::vector<float> x;
  std::vector<int32_t> y;
  mpt_array arrays[2];

  explicit Data(int64_t batch, uint32_t seed = 1)
      : x(static_cast<std::size_t>(batch) * 8), y(static_cast<std::size_t>(batch)) {
    uint32_t state = seed * 2654435761u + 12345u;
    for (float& v : x) {
      state = state * 1664525u + 1013904223u;
      v = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
    }
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = (x[8 * i] > 0 ? 1 : 0) + (x[8 * i + 1] > 0 ? 2 : 0);
    std::memset(arrays, 0, sizeof arrays);
    arrays[0].name = "x";
    arrays[0].data = x.data();
    arrays[0].dtype = MPT_FLOAT32;
    arrays[0].rank = 2;
    arrays[0].shape[0] = batch;
    arrays[0].shape[1] = 8;
    arrays[1].name = "y";
    arrays[1].data = y.data();
    arrays[1].dtype = MPT_INT32;
    arrays[1].rank = 1;
    arrays[1].shape[0] = batch;
  }
};

inline mpt_step_result Session::step(Data& data) {
  mpt_step_result r;
  mpt_step_result_init(&r, sizeof r);
  MPT_OKAY(mpt_trainer_step(trainer, data.arrays, 2, &r));
  return r;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

inline const char* name_of(mpt_precision p) {
  return p == MPT_PRECISION_FP32 ? "fp32" : p == MPT_PRECISION_FP16 ? "fp16" : "bf16";
}

}  // namespace e2e
