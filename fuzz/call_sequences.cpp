// Fuzz target: any bytes as a sequence of calls of the C API, over a pool of handles that are made, mixed up between contexts
// and models, and destroyed in any order. Arguments are mostly sensible and sometimes not. No call may crash or answer
// INTERNAL, each failure has a message, and when the last handle is gone so is all memory.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "mpt.h"

namespace {

constexpr int max_calls = 48, max_handles = 3;
constexpr int64_t max_elements = 2048;  // of a tensor, so that no run takes long

[[noreturn]] void stop(const char* what) {
  std::fprintf(stderr, "call_sequences: %s; last message: %s\n", what, mpt_last_error_message());
  std::abort();
}

class Bytes {
 public:
  Bytes(const uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ >= size_; }
  int take() { return empty() ? 0 : data_[at_++]; }
  int below(int n) { return take() % n; }
  bool flag() { return below(2) == 1; }
  double number() {
    static const double table[] = {0, 1, -1, 0.5, 2, 1e-3, 0.9, 100, 65536, 1e30, 1e300, -1e300, 1e-300};
    return table[below(sizeof table / sizeof *table)];
  }

 private:
  const uint8_t* data_;
  std::size_t size_, at_ = 0;
};

// Memory of all contexts; allocation `fails_at` fails.
int64_t live_blocks, allocations, fails_at;

void* allocate(void*, uint64_t bytes, uint64_t alignment) {
  constexpr uint64_t most = 1 << 26;
  void* p = nullptr;
  if (++allocations == fails_at || bytes > most || posix_memalign(&p, alignment, bytes) != 0) return nullptr;
  ++live_blocks;
  return p;
}
void deallocate(void*, void* p, uint64_t) {
  if (p) --live_blocks;
  std::free(p);
}

void check(mpt_status status) {
  if (status == MPT_OK) return;
  if (status > 0 || status <= MPT_ERROR_INTERNAL) stop("a status that no caller can act on");
  if (std::strncmp(mpt_last_error_message(), "mpt_", 4) != 0) stop("a failure without a message");
}

// A few handles of one kind, made by any context.
template <class Handle>
class Pool {
 public:
  explicit Pool(void (*destroy)(Handle*)) : destroy_(destroy) {}
  ~Pool() {
    while (!handles_.empty()) destroy(0);
  }
  Handle* pick(Bytes* bytes) const {
    const int at = bytes->take();
    return handles_.empty() || at == 255 ? nullptr : handles_[static_cast<std::size_t>(at) % handles_.size()];
  }
  Handle* last() const { return handles_.empty() ? nullptr : handles_.back(); }
  void add(mpt_status status, Handle* made) {
    check(status);
    if ((status == MPT_OK) != (made != nullptr)) stop("status and handle contradict each other");
    if (!made) return;
    handles_.push_back(made);
    if (handles_.size() > max_handles) destroy(0);
  }
  void destroy_one(Bytes* bytes) {
    if (!handles_.empty()) destroy(static_cast<std::size_t>(bytes->take()) % handles_.size());
  }

 private:
  void destroy(std::size_t at) {
    destroy_(handles_[at]);
    handles_.erase(handles_.begin() + static_cast<std::ptrdiff_t>(at));
  }
  void (*destroy_)(Handle*);
  std::vector<Handle*> handles_;
};

int32_t custom_forward(void*, const mpt_array*, int32_t, mpt_array* outputs, int32_t n_outputs, void*, void*) {
  for (int32_t i = 0; i < n_outputs; ++i) {
    uint64_t bytes = mpt_dtype_size(outputs[i].dtype);
    for (int32_t axis = 0; axis < outputs[i].rank; ++axis) bytes *= static_cast<uint64_t>(outputs[i].shape[axis]);
    std::memset(outputs[i].data, 0, bytes);
  }
  return 0;
}

class Session {
 public:
  explicit Session(Bytes bytes) : bytes_(bytes) {
    for (std::size_t i = 0; i < sizeof data_ / sizeof *data_; ++i) data_[i] = static_cast<float>(i % 3);
  }
  ~Session() { std::remove(file_.c_str()); }

  void run() {
    fails_at = bytes_.below(8) == 7 ? 1 + bytes_.take() : 0;
    make_context();
    for (int i = 0; i < max_calls && !bytes_.empty() && !too_large_; ++i) call();
  }

 private:
  // ---- handles
  void make_context() {
    mpt_context_options options;
    mpt_context_options_init(&options, sizeof options);
    mpt_allocator allocator{};
    allocator.struct_size = sizeof allocator;
    allocator.allocate = allocate;
    allocator.deallocate = deallocate;
    static const char* const devices[] = {"cpu", "cpu", "reference", "null"};
    options.device = devices[bytes_.below(4)];
    options.threads = 1;
    options.allocator = &allocator;
    mpt_context* made = nullptr;
    const mpt_status status = mpt_context_create(&made, &options);
    contexts_.add(status, made);
  }
  void make_model() {
    mpt_model* made = nullptr;
    const mpt_status status = mpt_model_create(&made, contexts_.pick(&bytes_));
    models_.add(status, made);
  }
  void make_params() {
    mpt_params_options options;
    mpt_params_options_init(&options, sizeof options);
    options.precision = bytes_.below(4);
    options.no_master = bytes_.below(8) == 7;
    options.gradient_dtype = bytes_.flag() ? MPT_FLOAT32 : 0;
    mpt_params* made = nullptr;
    const mpt_status status = bytes_.below(4) == 3 ? mpt_params_create_empty(&made, contexts_.pick(&bytes_), &options)
                                                   : mpt_params_create(&made, models_.pick(&bytes_), &options);
    params_.add(status, made);
  }
  void make_optimizer() {
    mpt_optimizer_options options;
    check(mpt_optimizer_options_init_kind(&options, sizeof options, 1 + bytes_.below(8)));
    if (bytes_.flag()) {
      options.learning_rate = bytes_.number();
      options.clip_norm = bytes_.number();
      options.average_decay = bytes_.number();
      options.statistics_every = bytes_.below(3);
    }
    mpt_optimizer* made = nullptr;
    const mpt_status status = mpt_optimizer_create(&made, params_.pick(&bytes_), &options);
    optimizers_.add(status, made);
  }
  void make_scaler() {
    mpt_scaler_options options;
    mpt_scaler_options_init(&options, sizeof options);
    options.mode = bytes_.below(5);
    options.growth_interval = bytes_.below(3);
    options.skip_policy = bytes_.below(4);
    options.skip_limit = bytes_.below(3);
    if (bytes_.flag()) options.initial_scale = bytes_.number();
    mpt_scaler* made = nullptr;
    const mpt_status status = mpt_scaler_create(&made, contexts_.pick(&bytes_), &options);
    scalers_.add(status, made);
  }
  void make_workspace() {
    mpt_workspace_options options;
    mpt_workspace_options_init(&options, sizeof options);
    options.bytes = static_cast<uint64_t>(bytes_.below(3)) * 1000;
    options.max_bytes = static_cast<uint64_t>(bytes_.below(3)) * 5000;
    mpt_workspace* made = nullptr;
    const mpt_status status = mpt_workspace_create(&made, contexts_.pick(&bytes_), &options);
    workspaces_.add(status, made);
  }
  void make_plan() {
    mpt_plan_options options;
    mpt_plan_options_init(&options, sizeof options);
    options.training = bytes_.below(2);
    options.activation_budget = static_cast<uint64_t>(bytes_.below(3)) * 500;
    options.optimizer = bytes_.flag() ? optimizers_.pick(&bytes_) : nullptr;
    const char* const names[] = {"batch", "length"};
    const int64_t sizes[] = {1 + bytes_.below(3), 1 + bytes_.below(3)};
    const mpt_tensor outputs[] = {tensor(), tensor()};
    mpt_plan* made = nullptr;
    const mpt_status status = mpt_plan_create(&made, params_.pick(&bytes_), 1 + bytes_.below(2), outputs,
                                              bytes_.below(3), names, sizes, &options);
    plans_.add(status, made);
  }
  void make_trainer() {
    mpt_trainer_options options;
    mpt_trainer_options_init(&options, sizeof options);
    options.accumulation_steps = bytes_.below(4);
    options.max_plans = bytes_.below(3);
    options.workspace = bytes_.flag() ? workspaces_.pick(&bytes_) : nullptr;
    options.activation_budget = static_cast<uint64_t>(bytes_.below(3)) * 500;
    mpt_trainer* made = nullptr;
    const mpt_tensor loss = bytes_.flag() ? newest_ : tensor();
    mpt_params* const params = params_.pick(&bytes_);
    mpt_optimizer* const optimizer = bytes_.flag() ? optimizers_.last() : optimizers_.pick(&bytes_);
    const mpt_status status =
        mpt_trainer_create(&made, loss, params, optimizer, bytes_.flag() ? scalers_.pick(&bytes_) : nullptr, &options);
    trainers_.add(status, made);
  }
  void destroy_one() {
    switch (bytes_.below(8)) {
      case 0:
        return contexts_.destroy_one(&bytes_);
      case 1:
        return models_.destroy_one(&bytes_);
      case 2:
        return params_.destroy_one(&bytes_);
      case 3:
        return optimizers_.destroy_one(&bytes_);
      case 4:
        return scalers_.destroy_one(&bytes_);
      case 5:
        return workspaces_.destroy_one(&bytes_);
      case 6:
        return plans_.destroy_one(&bytes_);
      default:
        return trainers_.destroy_one(&bytes_);
    }
  }
  // A whole small network, for sequences that go on from there.
  void make_network() {
    mpt_model* made = nullptr;
    mpt_status status = mpt_model_create(&made, contexts_.last());
    models_.add(status, made);
    mpt_model* const m = made;
    const int64_t batch = mpt_model_dim(m, "batch"), xs[] = {batch, 4}, ys[] = {batch};
    const mpt_tensor x = mpt_input(m, "x", MPT_FLOAT32, 2, xs), y = mpt_input(m, "y", MPT_INT32, 1, ys);
    const mpt_tensor h = mpt_set_of(m, mpt_linear(m, "fc1", x, 4, nullptr));
    newest_ = mpt_cross_entropy(m, mpt_linear(m, "fc2", h, 3, nullptr), y, nullptr);
    mpt_params_options options;
    mpt_params_options_init(&options, sizeof options);
    options.precision = 1 + bytes_.below(3);
    mpt_params* params = nullptr;
    status = mpt_params_create(&params, m, &options);
    params_.add(status, params);
    mpt_optimizer* optimizer = nullptr;
    status = mpt_optimizer_create(&optimizer, params, nullptr);
    optimizers_.add(status, optimizer);
    mpt_trainer* trainer = nullptr;
    status = mpt_trainer_create(&trainer, newest_, params, optimizer, nullptr, nullptr);
    trainers_.add(status, trainer);
  }
  static mpt_tensor mpt_set_of(mpt_model* m, mpt_tensor h) { return mpt_model_set_name(m, mpt_relu(m, h), "h"); }

  // ---- building
  mpt_tensor tensor() {
    constexpr int most_ids = 24;
    const int n = bytes_.take();
    return n >= 200 ? newest_ : n % most_ids - 1;
  }
  int64_t size(mpt_model* m) {
    const int n = bytes_.below(12);
    if (n == 11) return INT64_MAX;
    if (n == 10) return -1;
    if (n >= 8) return mpt_model_dim(m, n == 8 ? "batch" : "length");
    return n;
  }
  const char* name() {
    static const char* const names[] = {"x", "y", "h", "w", "a.weight", "fc1", "fc1.weight", "h.grad", "", nullptr};
    return names[bytes_.below(10)];
  }
  // The sizes of a tensor with 3 for what is not known.
  void note(mpt_model* m, mpt_tensor id) {
    if (id == 0) return;
    newest_ = id;
    int64_t shape[MPT_MAX_RANK], elements = 1;
    int32_t rank;
    if (mpt_model_tensor_shape(m, id, shape, &rank) != MPT_OK) stop("a tensor without a shape");
    for (int32_t i = 0; i < rank; ++i) {
      elements *= shape[i] < 0 ? 3 : shape[i];
      if (elements > max_elements) {
        too_large_ = true;
        return;
      }
    }
  }
  void build() {
    mpt_model* const m = bytes_.flag() ? models_.last() : models_.pick(&bytes_);
    const mpt_tensor id = build_op(m);
    if (id < 0) stop("a tensor with a negative id");
    if (id == 0 && std::strlen(mpt_last_error_message()) == 0 && m && mpt_model_check(m) == MPT_OK)
      stop("an op function gave 0 without a reason");
    note(m, id);
  }
  mpt_tensor build_op(mpt_model* m) {
    switch (bytes_.below(8)) {
      case 0:
        return build_source(m);
      case 1:
        return build_elementwise(m);
      case 2:
        return build_layer(m);
      case 3:
        return build_shape(m);
      case 4:
        return build_reduction(m);
      case 5:
        return build_loss(m);
      case 6:
        return build_custom(m);
      default:
        return mpt_matmul(m, tensor(), tensor(), bytes_.below(2), bytes_.below(2));
    }
  }
  mpt_tensor build_source(mpt_model* m) {
    const int rank = bytes_.below(5);
    int64_t shape[MPT_MAX_RANK] = {};
    for (int i = 0; i < rank; ++i) shape[i] = size(m);
    switch (bytes_.below(4)) {
      case 0: {
        mpt_array array = array_of("table", MPT_FLOAT32);
        array.rank = rank;
        int64_t elements = 1;
        for (int i = 0; i < rank; ++i) {
          array.shape[i] = shape[i];
          elements *= shape[i] < 0 || shape[i] > 8 ? 0 : shape[i];
        }
        return elements > static_cast<int64_t>(sizeof data_ / sizeof *data_) ? 0 : mpt_constant(m, &array);
      }
      case 1: {
        mpt_param_options options;
        mpt_param_options_init(&options, sizeof options);
        options.initializer = bytes_.below(11);
        options.a = bytes_.number();
        options.keep_fp32 = bytes_.below(2);
        return mpt_param(m, name(), rank, shape, &options);
      }
      default:
        return mpt_input(m, name(), bytes_.below(8), rank, shape);
    }
  }
  mpt_tensor build_elementwise(mpt_model* m) {
    const mpt_tensor x = tensor();
    switch (bytes_.below(16)) {
      case 0:
        return mpt_add(m, x, tensor());
      case 1:
        return mpt_sub(m, x, tensor());
      case 2:
        return mpt_mul(m, x, tensor());
      case 3:
        return mpt_div(m, x, tensor());
      case 4:
        return mpt_scale(m, x, bytes_.number(), bytes_.number());
      case 5:
        return mpt_leaky_relu(m, x, bytes_.number());
      case 6:
        return mpt_gelu(m, x);
      case 7:
        return mpt_gelu_tanh(m, x);
      case 8:
        return mpt_silu(m, x);
      case 9:
        return mpt_tanh(m, x);
      case 10:
        return mpt_exp(m, x);
      case 11:
        return mpt_log(m, x);
      case 12:
        return mpt_clamp(m, x, bytes_.number(), bytes_.number());
      case 13:
        return mpt_dropout(m, x, bytes_.number());
      case 14:
        return mpt_stop_gradient(m, x);
      default:
        return mpt_model_set_name(m, x, name());
    }
  }
  mpt_tensor build_layer(mpt_model* m) {
    const mpt_tensor x = tensor();
    mpt_norm_options norm;
    mpt_norm_options_init(&norm, sizeof norm);
    mpt_attention_options attention;
    mpt_attention_options_init(&attention, sizeof attention);
    switch (bytes_.below(8)) {
      case 0:
        norm.scale = bytes_.below(2);
        return mpt_layer_norm(m, name(), x, &norm);
      case 1:
        norm.shift = bytes_.below(2);
        return mpt_rms_norm(m, name(), x, &norm);
      case 2:
      case 3: {
        attention.causal = bytes_.below(2);
        attention.mask = bytes_.flag() ? tensor() : 0;
        attention.key_lengths = bytes_.flag() ? tensor() : 0;
        attention.kv_heads = bytes_.below(3);
        const int heads = bytes_.below(4);
        return bytes_.flag() ? mpt_attention(m, x, tensor(), tensor(), heads, &attention)
                             : mpt_multi_head_attention(m, name(), x, heads, &attention, nullptr);
      }
      case 4:
        return mpt_embedding(m, name(), x, size(m), size(m), nullptr);
      case 5:
        return mpt_model_param(m, name());
      default:
        return mpt_linear(m, name(), x, size(m), nullptr);
    }
  }
  mpt_tensor build_shape(mpt_model* m) {
    const mpt_tensor x = tensor();
    const int axis = bytes_.below(6) - 3;
    int64_t shape[MPT_MAX_RANK] = {};
    const int rank = bytes_.below(5);
    switch (bytes_.below(6)) {
      case 0:
        for (int i = 0; i < rank; ++i) shape[i] = size(m);
        return mpt_reshape(m, x, rank, shape);
      case 1:
        return mpt_transpose(m, x, nullptr);
      case 2:
        return mpt_slice(m, x, axis, bytes_.below(8) - 3, bytes_.below(8) - 3);
      case 3: {
        const mpt_tensor parts[] = {x, tensor(), tensor()};
        return mpt_concat(m, bytes_.below(4), parts, axis);
      }
      case 4:
        return mpt_gather(m, x, tensor(), axis);
      default:
        return mpt_pad(m, x, axis, bytes_.below(5) - 1, bytes_.below(5) - 1, bytes_.number());
    }
  }
  mpt_tensor build_reduction(mpt_model* m) {
    const mpt_tensor x = tensor();
    const int32_t axes[] = {bytes_.below(5) - 2, bytes_.below(5) - 2};
    const int32_t count = bytes_.below(3);
    switch (bytes_.below(5)) {
      case 0:
        return mpt_sum(m, x, count, axes, bytes_.below(2));
      case 1:
        return mpt_mean(m, x, count, axes, bytes_.below(2));
      case 2:
        return mpt_max(m, x, count, axes, bytes_.below(2));
      case 3:
        return mpt_softmax(m, x, axes[0]);
      default:
        return mpt_log_softmax(m, x, axes[0]);
    }
  }
  mpt_tensor build_loss(mpt_model* m) {
    mpt_loss_options options;
    mpt_loss_options_init(&options, sizeof options);
    options.reduction = bytes_.below(3);
    options.label_smoothing = bytes_.flag() ? bytes_.number() : 0;
    const mpt_tensor x = tensor(), target = tensor();
    switch (bytes_.below(4)) {
      case 0:
        return mpt_mse_loss(m, x, target, &options);
      case 1:
        return mpt_l1_loss(m, x, target, &options);
      case 2:
        return mpt_bce_loss(m, x, target, &options);
      default:
        return mpt_cross_entropy(m, x, target, &options);
    }
  }
  mpt_tensor build_custom(mpt_model* m) {
    mpt_custom_options options;
    mpt_custom_options_init(&options, sizeof options);
    options.forward = custom_forward;
    options.scratch_bytes = static_cast<uint64_t>(bytes_.below(2)) * 100;
    options.fp32 = bytes_.below(2);
    const mpt_tensor inputs[] = {tensor(), tensor()};
    const int32_t ranks[] = {bytes_.below(3), bytes_.below(3)};
    const int64_t shapes[] = {size(m), size(m), size(m), size(m)};
    mpt_tensor outputs[2] = {};
    const mpt_tensor first =
        mpt_custom(m, bytes_.below(3), inputs, 1 + bytes_.below(2), ranks, shapes, &options, outputs);
    if (first != 0) note(m, outputs[0]);
    return first;
  }

  // ---- working
  mpt_array array_of(const char* of, mpt_dtype dtype) {
    mpt_array array{};
    array.name = of;
    array.data = data_;
    array.dtype = dtype;
    return array;
  }
  // x [batch, 4] and y [batch] as make_network has them, or something else.
  std::vector<mpt_array> batch() {
    const int64_t rows = 1 + bytes_.below(3);
    std::vector<mpt_array> arrays = {array_of("x", MPT_FLOAT32), array_of("y", MPT_INT32)};
    arrays[0].rank = 2;
    arrays[0].shape[0] = arrays[1].shape[0] = rows;
    arrays[0].shape[1] = 4;
    arrays[1].rank = 1;
    arrays[1].data = labels_;
    switch (bytes_.below(8)) {
      case 0:
        arrays.pop_back();
        break;
      case 1:
        arrays[0].dtype = bytes_.below(9);
        break;
      case 2:
        arrays[0].rank = bytes_.below(4);
        break;
      case 3:
        arrays[1].shape[0] = bytes_.below(4);
        break;
      case 4:
        arrays[0].name = name();
        break;
      case 5:
        arrays[0].data = bytes_.flag() ? nullptr : arrays[0].data;
        break;
      default:
        break;
    }
    return arrays;
  }
  void train() {
    mpt_trainer* const t = bytes_.flag() ? trainers_.last() : trainers_.pick(&bytes_);
    mpt_step_result result;
    mpt_step_result_init(&result, sizeof result);
    mpt_memory_report report;
    mpt_memory_report_init(&report, sizeof report);
    double loss = 0;
    mpt_array out = array_of(name(), MPT_FLOAT32);
    out.rank = 2;
    out.shape[0] = 1 + bytes_.below(3);
    out.shape[1] = 4;
    out.data = written_;
    const std::vector<mpt_array> inputs = batch();
    const auto count = static_cast<int32_t>(inputs.size());
    switch (bytes_.below(16)) {
      case 0:
        return check(mpt_trainer_backward(t, inputs.data(), count, &loss));
      case 1:
        return check(mpt_trainer_update(t, &result));
      case 2:
        return check(mpt_trainer_evaluate(t, inputs.data(), count, bytes_.below(2), &loss));
      case 3:
        return check(mpt_trainer_predict(t, inputs.data(), count, &out, 1));
      case 4:
        return check(mpt_trainer_keep(t, out.name));
      case 5:
        return check(mpt_trainer_fetch(t, &out));
      case 6:
        return check(mpt_trainer_cancel(t));
      case 7:
        return check(mpt_trainer_memory(t, &report));
      case 8:
        return check(mpt_trainer_dump(t, text_, sizeof text_, nullptr));
      case 9:
        return check(mpt_trainer_add_objective(t, tensor(), optimizers_.pick(&bytes_), scalers_.pick(&bytes_)));
      case 10:
        return check(mpt_trainer_objective_result(t, bytes_.below(3) - 1, &result));
      case 11:  // a file takes long: one in a sequence
        if (!saved_) check(mpt_trainer_save(t, file_.c_str()));
        saved_ = true;
        return;
      case 12:
        return check(mpt_trainer_load(t, file_.c_str()));
      default:
        return check(mpt_trainer_step(t, inputs.data(), count, &result));
    }
  }
  void use_store() {
    mpt_params* const p = params_.pick(&bytes_);
    mpt_optimizer* const o = optimizers_.pick(&bytes_);
    mpt_scaler* const s = scalers_.pick(&bytes_);
    double number;
    mpt_array out = array_of(nullptr, MPT_FLOAT32);
    out.rank = bytes_.below(3);
    out.shape[0] = out.shape[1] = 1 + bytes_.below(4);
    out.data = written_;
    int64_t shape[] = {1 + bytes_.below(4), 1 + bytes_.below(4)};
    mpt_step_result result;
    mpt_step_result_init(&result, sizeof result);
    mpt_update_statistics statistics;
    mpt_update_statistics_init(&statistics, sizeof statistics);
    mpt_group_options group;
    mpt_group_options_init(&group, sizeof group);
    group.frozen = bytes_.below(2);
    switch (bytes_.below(15)) {
      case 0:
        return check(mpt_params_register(p, name(), bytes_.below(3), shape, nullptr));
      case 1:
        return check(mpt_params_allocate(p));
      case 2:
        return check(mpt_params_use_buffers(p, name(), nullptr, buffers_));
      case 3:
        return check(mpt_params_tensor(p, name(), bytes_.below(5), &out));
      case 4:
        return check(mpt_params_get(p, name(), bytes_.below(5), &out));
      case 5:
        std::memset(written_, 0, sizeof written_);
        return check(mpt_params_set(p, name(), &out));
      case 6:
        return check(mpt_params_refresh(p));
      case 7:
        return check(mpt_params_load(p, file_.c_str(), nullptr));
      case 8:
        return check(mpt_scaler_begin(s, p, &number));
      case 9:
        return check(mpt_scaler_unscale(s, p));
      case 10:
        return check(mpt_optimizer_step(o, bytes_.flag() ? s : nullptr, &result));
      case 11:
        return check(mpt_optimizer_add_group(o, bytes_.flag() ? "*" : "fc1*", &group, nullptr));
      case 12:
        return check(mpt_optimizer_set_learning_rate(o, bytes_.number()));
      case 13:
        return check(mpt_optimizer_get_average(o, name(), &out));
      default:
        return check(mpt_optimizer_statistics(o, &statistics));
    }
  }
  void look_at_model() {
    mpt_model* const m = models_.pick(&bytes_);
    switch (bytes_.below(6)) {
      case 0:
        return check(mpt_model_check(m));
      case 1:
        return check(mpt_model_clear_error(m));
      case 2:
        return check(mpt_model_dump(m, text_, static_cast<uint64_t>(bytes_.take()), nullptr));
      case 3:
        return check(mpt_model_set_class_dtype(m, bytes_.below(6), bytes_.flag() ? MPT_FLOAT32 : 0));
      case 4:
        return check(mpt_model_set_op_dtype(m, name(), bytes_.flag() ? MPT_FLOAT32 : 0));
      default: {
        const float mean[4] = {0, 1, 2, 3}, deviation[4] = {1, 1, 1, 1};
        return check(mpt_input_normalize(m, tensor(), bytes_.below(4) - 2, 1 + bytes_.below(4), mean, deviation));
      }
    }
  }

  void call() {
    switch (bytes_.below(20)) {
      case 0:
        return make_context();
      case 1:
        return make_model();
      case 2:
        return make_params();
      case 3:
        return make_optimizer();
      case 4:
        return make_scaler();
      case 5:
        return make_workspace();
      case 6:
        return make_plan();
      case 7:
        return make_trainer();
      case 8:
        return destroy_one();
      case 9:
        return make_network();
      case 10:
        return look_at_model();
      case 11:
        return use_store();
      case 12:
      case 13:
      case 14:
        return train();
      default:
        return build();
    }
  }

  Bytes bytes_;
  mpt_tensor newest_ = 0;
  bool too_large_ = false, saved_ = false;
  std::string file_ = "call_sequences_" + std::to_string(getpid()) + ".safetensors";
  float data_[4096];
  int32_t labels_[8] = {0, 1, 2, 0, 1, 2, 0, 1};
  double written_[64] = {};
  double buffers_[64] = {};  // of the caller's, for gradients: these outlive the handles
  char text_[1 << 14];
  Pool<mpt_context> contexts_{mpt_context_destroy};
  Pool<mpt_model> models_{mpt_model_destroy};
  Pool<mpt_params> params_{mpt_params_destroy};
  Pool<mpt_optimizer> optimizers_{mpt_optimizer_destroy};
  Pool<mpt_scaler> scalers_{mpt_scaler_destroy};
  Pool<mpt_workspace> workspaces_{mpt_workspace_destroy};
  Pool<mpt_plan> plans_{mpt_plan_destroy};
  Pool<mpt_trainer> trainers_{mpt_trainer_destroy};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  live_blocks = allocations = fails_at = 0;
  Session(Bytes(data, size)).run();
  if (live_blocks != 0) stop("memory was lost");
  return 0;
}
