// libmpt for C++: RAII over mpt.h, and nothing else. Header-only, C++11; every member is one call of the C API.
//
//   mpt::Context context;
//   mpt::Model model(context);
//   ...
//   mpt::Trainer trainer(loss, params, &optimizer, &scaler);
//   mpt_step_result r = trainer.step(inputs, 2);
//
// Failures are thrown as mpt::Exception, which carries the status and the library's message. Objects can be moved, not copied;
// get() gives the C handle for everything that has no member here. Tensors are ids, as in C: a mistake made while building is
// thrown by Model::check() and by Params.
#ifndef MPT_HPP
#define MPT_HPP

#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "mpt.h"

namespace mpt {

class Exception : public std::runtime_error {
 public:
  explicit Exception(mpt_status status) : std::runtime_error(mpt_last_error_message()), status_(status) {}
  mpt_status status() const noexcept { return status_; }

 private:
  mpt_status status_;
};

inline void check(mpt_status status) {
  if (status != MPT_OK) throw Exception(status);
}

// Option structs with their real defaults: auto o = mpt::options<mpt_scaler_options>(mpt_scaler_options_init);
template <class Struct>
Struct options(mpt_status (*init)(Struct *, uint64_t)) {
  Struct out;
  check(init(&out, sizeof out));
  return out;
}

// A dense host array for a step, given or received.
inline mpt_array array(const char *name, const void *data, mpt_dtype dtype, const std::vector<int64_t> &shape) {
  mpt_array out;
  std::memset(&out, 0, sizeof out);
  if (shape.size() > MPT_MAX_RANK) throw std::invalid_argument("mpt::array: more than MPT_MAX_RANK sizes");
  out.name = name;
  out.data = const_cast<void *>(data);
  out.dtype = dtype;
  out.rank = static_cast<int32_t>(shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) out.shape[i] = shape[i];
  return out;
}

// Owns a handle.
template <class Handle, void (*Destroy)(Handle *)>
class Owner {
 public:
  Handle *get() const noexcept { return handle_.get(); }
  explicit operator bool() const noexcept { return handle_ != nullptr; }

 protected:
  struct Deleter {
    void operator()(Handle *handle) const noexcept { Destroy(handle); }
  };
  void reset(Handle *handle) { handle_.reset(handle); }

 private:
  std::unique_ptr<Handle, Deleter> handle_;
};

class Context : public Owner<mpt_context, mpt_context_destroy> {
 public:
  explicit Context(const mpt_context_options *options = nullptr) {
    mpt_context *out = nullptr;
    check(mpt_context_create(&out, options));
    reset(out);
  }
  void synchronize() { check(mpt_context_synchronize(get())); }
  int32_t threads() const { return mpt_context_threads(get()); }
  std::string device() const { return mpt_context_device(get()); }
};

class Model : public Owner<mpt_model, mpt_model_destroy> {
 public:
  explicit Model(const Context &context) {
    mpt_model *out = nullptr;
    check(mpt_model_create(&out, context.get()));
    reset(out);
  }
  void check_errors() const { check(mpt_model_check(get())); }
  int64_t dim(const char *name) { return mpt_model_dim(get(), name); }
  mpt_tensor input(const char *name, mpt_dtype dtype, const std::vector<int64_t> &shape) {
    return mpt_input(get(), name, dtype, static_cast<int32_t>(shape.size()), shape.data());
  }
  mpt_tensor linear(const char *name, mpt_tensor x, int64_t features, const mpt_linear_options *options = nullptr) {
    return mpt_linear(get(), name, x, features, options);
  }
  mpt_tensor name(mpt_tensor tensor, const char *name) { return mpt_model_set_name(get(), tensor, name); }
  std::string dump() const {
    uint64_t needed = 0;
    check(mpt_model_dump(get(), nullptr, 0, &needed));
    std::string text(static_cast<std::size_t>(needed), '\0');
    check(mpt_model_dump(get(), &text[0], needed, nullptr));
    text.resize(text.size() - 1);
    return text;
  }
};

class Params : public Owner<mpt_params, mpt_params_destroy> {
 public:
  explicit Params(const Model &model, const mpt_params_options *options = nullptr) {
    mpt_params *out = nullptr;
    check(mpt_params_create(&out, model.get(), options));
    reset(out);
  }
  explicit Params(const Context &context, const mpt_params_options *options = nullptr) {
    mpt_params *out = nullptr;
    check(mpt_params_create_empty(&out, context.get(), options));
    reset(out);
  }
  int32_t count() const { return mpt_params_count(get()); }
  std::string name(int32_t index) const {
    const char *text = mpt_params_name(get(), index);
    return text ? text : "";
  }
  mpt_array tensor(const char *name, int32_t part) {
    mpt_array out;
    check(mpt_params_tensor(get(), name, part, &out));
    return out;
  }
  void save(const std::string &path, mpt_dtype dtype = MPT_FLOAT32) {
    check(mpt_params_save(get(), path.c_str(), dtype));
  }
  void load(const std::string &path, const mpt_load_options *options = nullptr) {
    check(mpt_params_load(get(), path.c_str(), options));
  }
};

class Scaler : public Owner<mpt_scaler, mpt_scaler_destroy> {
 public:
  explicit Scaler(const Context &context, const mpt_scaler_options *options = nullptr) {
    mpt_scaler *out = nullptr;
    check(mpt_scaler_create(&out, context.get(), options));
    reset(out);
  }
  mpt_scaler_state state() const {
    mpt_scaler_state out = options<mpt_scaler_state>(mpt_scaler_state_init);
    check(mpt_scaler_get_state(get(), &out));
    return out;
  }
  double begin(const Params &params) {
    double scale = 1;
    check(mpt_scaler_begin(get(), params.get(), &scale));
    return scale;
  }
};

class Optimizer : public Owner<mpt_optimizer, mpt_optimizer_destroy> {
 public:
  explicit Optimizer(const Params &params, const mpt_optimizer_options *options = nullptr) {
    mpt_optimizer *out = nullptr;
    check(mpt_optimizer_create(&out, params.get(), options));
    reset(out);
  }
  int32_t add_group(const char *pattern, const mpt_group_options &group) {
    int32_t matched = 0;
    check(mpt_optimizer_add_group(get(), pattern, &group, &matched));
    return matched;
  }
  void set_learning_rate(double rate) { check(mpt_optimizer_set_learning_rate(get(), rate)); }
  mpt_step_result step(const Scaler *scaler) {
    mpt_step_result out = options<mpt_step_result>(mpt_step_result_init);
    check(mpt_optimizer_step(get(), scaler ? scaler->get() : nullptr, &out));
    return out;
  }
};

class Trainer : public Owner<mpt_trainer, mpt_trainer_destroy> {
 public:
  Trainer(mpt_tensor loss, const Params &params, const Optimizer *optimizer, const Scaler *scaler = nullptr,
          const mpt_trainer_options *options = nullptr) {
    mpt_trainer *out = nullptr;
    check(mpt_trainer_create(&out, loss, params.get(), optimizer ? optimizer->get() : nullptr,
                             scaler ? scaler->get() : nullptr, options));
    reset(out);
  }
  mpt_step_result step(const mpt_array *inputs, int32_t count) {
    mpt_step_result out = options<mpt_step_result>(mpt_step_result_init);
    check(mpt_trainer_step(get(), inputs, count, &out));
    return out;
  }
  double evaluate(const mpt_array *inputs, int32_t count, bool use_average = false) {
    double loss = 0;
    check(mpt_trainer_evaluate(get(), inputs, count, use_average ? 1 : 0, &loss));
    return loss;
  }
  void predict(const mpt_array *inputs, int32_t n_inputs, const mpt_array *outputs, int32_t n_outputs) {
    check(mpt_trainer_predict(get(), inputs, n_inputs, outputs, n_outputs));
  }
  mpt_memory_report memory() {
    mpt_memory_report out = options<mpt_memory_report>(mpt_memory_report_init);
    check(mpt_trainer_memory(get(), &out));
    return out;
  }
  void save(const std::string &path) { check(mpt_trainer_save(get(), path.c_str())); }
  void load(const std::string &path) { check(mpt_trainer_load(get(), path.c_str())); }
};

}  // namespace mpt
#endif  // MPT_HPP
