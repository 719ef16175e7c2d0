#include "calls.h"

#include <unistd.h>

namespace abi {
namespace {

int32_t forward(void*, const mpt_array*, int32_t, mpt_array*, int32_t, void*, void*) { return 0; }

const mpt_custom_options custom_op = [] {
  mpt_custom_options options;
  mpt_custom_options_init(&options, sizeof options);
  options.name = "custom";
  options.forward = forward;
  return options;
}();

// A tensor of another library's: two floats on the host.
float foreign_numbers[2] = {1, 2};
int64_t foreign_shape[1] = {2};
const DLTensor foreign{foreign_numbers, {1, 0}, 1, {2, 32, 1}, foreign_shape, nullptr, 0};
const DLManagedTensor foreign_tensor{foreign, nullptr, nullptr};
const DLManagedTensorVersioned foreign_versioned_tensor{{1, 0}, nullptr, nullptr, 0, foreign};

const int64_t eight_sizes[MPT_MAX_RANK] = {2, 4, 1, 1, 1, 1, 1, 1};
const int64_t half_and_rest[MPT_MAX_RANK] = {-1, 2, 1, 1, 1, 1, 1, 1};
const int32_t swapped[2] = {1, 0};
const int32_t axes[2] = {0, 1};
const int32_t ranks[1] = {1};
const char* const batch_name[1] = {"batch"};
const int64_t batch_size[1] = {3};

template <class... Values>
Row row(Values... values) {
  return {[=](World& w) {
            return std::vector<Value>{[&] {
              if constexpr (std::is_invocable_v<Values, World&>)
                return Value(values(w));
              else
                return Value(values);
            }()...};
          },
          {}};
}

Row after(std::function<void(World&)> prepare, Row row) {
  row.prepare = std::move(prepare);
  return row;
}

// Arguments that lie in the world.
#define W(member) [](World& w) { return w.member; }
#define AT(member, count) [](World& w) { return Value(&w.member, count); }
#define RESULT(type) [](World& w) { return Value(w.result(#type)); }
#define PATH(member) [](World& w) { return Value(w.member.c_str()); }

const Value none = nullptr;
const auto model = W(model);
const auto out = AT(out, 1);
const auto text = [](World& w) { return Value(w.text, sizeof w.text); };
const auto text_size = [](World& w) { return Value(uint64_t{sizeof w.text}); };

void begin_own_pass(World& w) {
  double scale;
  World::require(mpt_scaler_begin(w.store_scaler, w.store, &scale) == MPT_OK, "mpt_scaler_begin");
}
void begin_update(World& w) {
  // Without effect where a backward pass has been run and its update has not.
  mpt_trainer_backward(w.trainer, w.two_rows, 2, nullptr);
}
// Files are written once, and then differ from what is in memory.
bool exists(const std::string& file) { return access(file.c_str(), F_OK) == 0; }
void step(World& w) {
  World::require(mpt_trainer_step(w.trainer, w.two_rows, 2, nullptr) == MPT_OK, "mpt_trainer_step");
}
void save_checkpoint(World& w) {
  if (exists(w.checkpoint)) return;
  World::require(mpt_trainer_save(w.trainer, w.checkpoint.c_str()) == MPT_OK, "mpt_trainer_save");
  step(w);
}
void save_weights(World& w) {
  if (exists(w.weights)) return;
  World::require(mpt_params_save(w.params, w.weights.c_str(), MPT_FLOAT32) == MPT_OK, "mpt_params_save");
  step(w);
}

const std::map<std::string, Row>& rows() {
  static const std::map<std::string, Row> all =
      {
          {"mpt_status_name", row(MPT_OK)},
          {"mpt_last_error_message", row()},
          {"mpt_version", row()},
          {"mpt_build_info", row()},
          {"mpt_dtype_size", row(MPT_FLOAT32)},
          {"mpt_dtype_name", row(MPT_FLOAT32)},

          {"mpt_context_create", row(out,
                                     [](World& w) {
                                       auto* options =
                                           static_cast<mpt_context_options*>(w.result("mpt_context_options"));
                                       auto* allocator = static_cast<mpt_allocator*>(w.result("mpt_allocator"));
                                       options->threads = 1;
                                       options->allocator = allocator;
                                       return Value(options);
                                     })},
          {"mpt_context_destroy", row(none)},
          {"mpt_context_synchronize", row(W(context))},
          {"mpt_context_threads", row(W(context))},
          {"mpt_context_device", row(W(context))},

          {"mpt_model_create", row(out, W(context))},
          {"mpt_model_destroy", row(none)},
          {"mpt_model_check", row(model)},
          {"mpt_model_clear_error", row(model)},
          {"mpt_model_dim", row(model, "length")},
          {"mpt_model_set_name", row(model, W(logits), "logits")},
          {"mpt_model_find", row(model, "x")},
          {"mpt_model_tensor_shape", row(model, W(h), AT(sizes, 1), AT(integers, 1))},
          {"mpt_model_dump", row(model, text, text_size, AT(bytes, 1))},
          {"mpt_model_set_op_dtype", row(model, "fc1", MPT_FLOAT32)},
          {"mpt_model_set_class_dtype", row(model, MPT_CLASS_MATMUL, MPT_FLOAT32)},

          {"mpt_input", row(model, "new", MPT_FLOAT32, 2, Value(eight_sizes, 8))},
          {"mpt_input_normalize", row(model, W(x), 1, 4, AT(numbers, 4), AT(numbers, 4))},
          {"mpt_constant", row(model, AT(constant, 1))},
          {"mpt_param", row(model, "new", 2, Value(eight_sizes, 8), RESULT(mpt_param_options))},
          {"mpt_model_param", row(model, "fc1.weight")},

          {"mpt_matmul", row(model, W(x), W(x), 0, 1)},
          {"mpt_linear", row(model, "new", W(x), int64_t{3}, RESULT(mpt_linear_options))},
          {"mpt_add", row(model, W(x), W(h))},
          {"mpt_sub", row(model, W(x), W(h))},
          {"mpt_mul", row(model, W(x), W(h))},
          {"mpt_div", row(model, W(x), W(h))},
          {"mpt_scale", row(model, W(x), 2.0, 1.0)},
          {"mpt_relu", row(model, W(x))},
          {"mpt_leaky_relu", row(model, W(x), 0.1)},
          {"mpt_gelu", row(model, W(x))},
          {"mpt_gelu_tanh", row(model, W(x))},
          {"mpt_silu", row(model, W(x))},
          {"mpt_sigmoid", row(model, W(x))},
          {"mpt_tanh", row(model, W(x))},
          {"mpt_exp", row(model, W(x))},
          {"mpt_log", row(model, W(x))},
          {"mpt_sqrt", row(model, W(x))},
          {"mpt_square", row(model, W(x))},
          {"mpt_clamp", row(model, W(x), -1.0, 1.0)},
          {"mpt_dropout", row(model, W(x), 0.5)},
          {"mpt_stop_gradient", row(model, W(x))},

          {"mpt_softmax", row(model, W(x), -1)},
          {"mpt_log_softmax", row(model, W(x), -1)},
          {"mpt_layer_norm", row(model, "new", W(x), RESULT(mpt_norm_options))},
          {"mpt_rms_norm", row(model, "new", W(x), RESULT(mpt_norm_options))},
          {"mpt_attention", row(model, W(q), W(q), W(q), 2, RESULT(mpt_attention_options))},
          {"mpt_multi_head_attention",
           row(model, "new", W(q), 2, RESULT(mpt_attention_options), RESULT(mpt_linear_options))},
          {"mpt_embedding", row(model, "new", W(indices), int64_t{5}, int64_t{4}, RESULT(mpt_embedding_options))},

          {"mpt_reshape", row(model, W(x), 2, Value(half_and_rest, 8))},
          {"mpt_transpose", row(model, W(x), Value(swapped, 2))},
          {"mpt_slice", row(model, W(x), 1, int64_t{1}, int64_t{3})},
          {"mpt_concat",
           row(
               model, 2,
               [](World& w) {
                 w.integers[0] = w.x;
                 w.integers[1] = w.h;
                 return Value(w.integers, 2);
               },
               0)},
          {"mpt_gather", row(model, W(h), W(indices), 1)},
          {"mpt_pad", row(model, W(x), 1, int64_t{1}, int64_t{1}, 0.5)},
          {"mpt_sum", row(model, W(x), 2, Value(axes, 2), 0)},
          {"mpt_mean", row(model, W(x), 2, Value(axes, 2), 0)},
          {"mpt_max", row(model, W(x), 2, Value(axes, 2), 0)},
          {"mpt_cross_entropy", row(model, W(logits), W(y), RESULT(mpt_loss_options))},
          {"mpt_mse_loss", row(model, W(x), W(h), RESULT(mpt_loss_options))},
          {"mpt_l1_loss", row(model, W(x), W(h), RESULT(mpt_loss_options))},
          {"mpt_bce_loss", row(model, W(x), W(h), RESULT(mpt_loss_options))},
          {"mpt_custom",
           row(model, 1, AT(x, 1), 1, Value(ranks, 1), Value(eight_sizes, 8), Value(&custom_op), AT(integers, 1))},

          {"mpt_params_create", row(out, model, RESULT(mpt_params_options))},
          {"mpt_params_create_empty", row(out, W(context), RESULT(mpt_params_options))},
          {"mpt_params_destroy", row(none)},
          {"mpt_params_register", row(W(unfinished), "new", 2, Value(eight_sizes, 8), RESULT(mpt_param_options))},
          {"mpt_params_use_buffers", row(W(unfinished), "w", none, AT(numbers, 8))},
          {"mpt_params_allocate", row(W(unfinished))},
          {"mpt_params_count", row(W(params))},
          {"mpt_params_name", row(W(params), 0)},
          {"mpt_array_from_dlpack", row(Value(&foreign_tensor), AT(array, 1))},
          {"mpt_array_from_dlpack_versioned", row(Value(&foreign_versioned_tensor), AT(array, 1))},
          {"mpt_params_to_dlpack",
           after([](World& w) { w.release_tensors(); }, row(W(params), "fc1.bias", MPT_PART_MASTER, AT(tensor, 1)))},
          {"mpt_params_to_dlpack_versioned",
           after([](World& w) { w.release_tensors(); },
                 row(W(params), "fc1.bias", MPT_PART_MASTER, AT(versioned_tensor, 1)))},
          {"mpt_params_tensor", row(W(params), "fc1.bias", MPT_PART_MASTER, AT(array, 1))},
          {"mpt_params_get", row(W(params), "fc1.bias", MPT_PART_MASTER, AT(weight, 1))},
          {"mpt_params_set", row(W(params), "fc1.bias", AT(weight, 1))},
          {"mpt_params_refresh", row(W(params))},
          {"mpt_params_save", row(W(params), PATH(saved), MPT_FLOAT32)},
          {"mpt_params_load", after(save_weights, row(W(params), PATH(weights), RESULT(mpt_load_options)))},

          {"mpt_scaler_create", row(out, W(context), RESULT(mpt_scaler_options))},
          {"mpt_scaler_destroy", row(none)},
          {"mpt_scaler_get_state", row(W(scaler), RESULT(mpt_scaler_state))},
          {"mpt_scaler_begin", row(W(store_scaler), W(store), AT(number, 1))},
          {"mpt_scaler_unscale", after(begin_own_pass, row(W(store_scaler), W(store)))},

          {"mpt_schedule_factor", row(RESULT(mpt_schedule_options), int64_t{3}, AT(number, 1))},
          {"mpt_optimizer_options_init_kind",
           row(RESULT(mpt_optimizer_options), uint64_t{sizeof(mpt_optimizer_options)}, MPT_SGD)},
          {"mpt_optimizer_create", row(out, W(params),
                                       [](World& w) {
                                         auto* options =
                                             static_cast<mpt_optimizer_options*>(w.result("mpt_optimizer_options"));
                                         options->schedule =
                                             static_cast<mpt_schedule_options*>(w.result("mpt_schedule_options"));
                                         options->average_decay = 0.5;
                                         return Value(options);
                                       })},
          {"mpt_optimizer_destroy", row(none)},
          {"mpt_optimizer_add_group", row(W(optimizer), "fc1*", RESULT(mpt_group_options), AT(integers, 1))},
          {"mpt_optimizer_set_learning_rate", row(W(optimizer), 0.5)},
          {"mpt_optimizer_learning_rate", row(W(optimizer), AT(number, 1))},
          {"mpt_optimizer_step",
           after(begin_own_pass, row(W(store_optimizer), W(store_scaler), RESULT(mpt_step_result)))},
          {"mpt_optimizer_get_average", row(W(store_optimizer), "w", AT(store_weight, 1))},
          {"mpt_optimizer_statistics", row(W(optimizer), RESULT(mpt_update_statistics))},

          {"mpt_workspace_create", row(out, W(context), RESULT(mpt_workspace_options))},
          {"mpt_workspace_destroy", row(none)},
          {"mpt_workspace_bytes", row(W(workspace))},
          {"mpt_plan_create", row(out, W(params), 1, AT(loss, 1), 1, Value(batch_name, 1), Value(batch_size, 1),
                                  [](World& w) {
                                    auto* options = static_cast<mpt_plan_options*>(w.result("mpt_plan_options"));
                                    options->optimizer = w.optimizer;
                                    return Value(options);
                                  })},
          {"mpt_plan_destroy", row(none)},
          {"mpt_plan_memory", row(W(plan), RESULT(mpt_memory_report))},
          {"mpt_plan_dump", row(W(plan), text, text_size, AT(bytes, 1))},

          {"mpt_trainer_create", row(out, W(loss), W(params), W(optimizer), W(scaler),
                                     [](World& w) {
                                       auto* options =
                                           static_cast<mpt_trainer_options*>(w.result("mpt_trainer_options"));
                                       options->workspace = w.workspace;
                                       return Value(options);
                                     })},
          {"mpt_trainer_add_objective", row(W(new_trainer), W(loss), W(optimizer), W(scaler))},
          {"mpt_trainer_destroy", row(none)},
          {"mpt_trainer_step", row(W(trainer), AT(three_rows, 2), 2, RESULT(mpt_step_result))},
          {"mpt_trainer_backward", row(W(trainer), AT(three_rows, 2), 2, AT(number, 1))},
          {"mpt_trainer_update", after(begin_update, row(W(trainer), RESULT(mpt_step_result)))},
          {"mpt_trainer_objective_result", row(W(trainer), 0, RESULT(mpt_step_result))},
          {"mpt_trainer_evaluate", row(W(trainer), AT(three_rows, 2), 2, 1, AT(number, 1))},
          {"mpt_trainer_predict", row(W(trainer), AT(three_rows, 2), 2, AT(predicted, 1), 1)},
          {"mpt_trainer_keep", row(W(trainer), "h.grad")},
          {"mpt_trainer_fetch", after(step, row(W(trainer), AT(kept, 1)))},
          {"mpt_trainer_cancel", row(W(trainer))},
          {"mpt_trainer_memory", row(W(trainer), RESULT(mpt_memory_report))},
          {"mpt_trainer_dump", row(W(trainer), text, text_size, AT(bytes, 1))},
          {"mpt_trainer_save", row(W(trainer), PATH(saved))},
          {"mpt_trainer_load", after(save_checkpoint, row(W(trainer), PATH(checkpoint)))},
      };
  return all;
}

// The functions that initialise structs are all alike.
Row init_row(const std::string& type) {
  return {[type](World& w) {
            return std::vector<Value>{Value(w.result(type)), Value(uint64_t{find_struct(type)->size})};
          },
          {}};
}

const std::map<std::string, Row>& init_rows() {
  static const std::map<std::string, Row> all = [] {
    std::map<std::string, Row> rows;
    for (const Struct& type : structs)
      if (type.init) rows[type.name + "_init"] = init_row(type.name);
    return rows;
  }();
  return all;
}

}  // namespace

const Row* find_row(const std::string& function) {
  for (const auto* table : {&rows(), &init_rows()})
    if (const auto found = table->find(function); found != table->end()) return &found->second;
  return nullptr;
}

std::vector<std::string> rows_without_function() {
  std::vector<std::string> names;
  for (const auto& [name, row] : rows())
    if (!find_function(name)) names.push_back(name);
  return names;
}

void destroy_out(World& world, const Function& function) {
  if (!world.out || function.parameters.empty() || function.parameters[0].kind != Kind::handle_out) return;
  const std::string type = pointed_type(function.parameters[0].type);
  const Value handle(world.out);
  find_function(type + "_destroy")->call(&handle);
  world.out = nullptr;
}

}  // namespace abi
