#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "calls.h"

namespace abi {
namespace {

mpt_array array_of(const char* name, void* data, mpt_dtype dtype, int32_t rank, int64_t a = 0, int64_t b = 0) {
  mpt_array array{};
  array.name = name;
  array.data = data;
  array.dtype = dtype;
  array.rank = rank;
  array.shape[0] = a;
  array.shape[1] = b;
  return array;
}

std::string file_name(const char* what) { return "abi_" + std::to_string(getpid()) + "_" + what + ".safetensors"; }

}  // namespace

void World::require(bool ok, const char* what) {
  if (ok) return;
  std::printf("%s: %s\n", what, mpt_last_error_message());
  std::exit(1);
}

#define CALL(call) require((call) == MPT_OK, #call)

World::World(const mpt_allocator* allocator)
    : checkpoint(file_name("checkpoint")), saved(file_name("saved")), weights(file_name("weights")) {
  mpt_context_options context_options;
  CALL(mpt_context_options_init(&context_options, sizeof context_options));
  context_options.threads = 1;
  context_options.allocator = allocator;
  CALL(mpt_context_create(&context, &context_options));

  CALL(mpt_model_create(&model, context));
  batch = mpt_model_dim(model, "batch");
  const int64_t rows_of_4[] = {batch, 4}, row[] = {batch}, sequence[] = {batch, 2, 4}, square[] = {2, 2};
  x = mpt_input(model, "x", MPT_FLOAT32, 2, rows_of_4);
  y = mpt_input(model, "y", MPT_INT32, 1, row);
  h = mpt_model_set_name(model, mpt_relu(model, mpt_linear(model, "fc1", x, 4, nullptr)), "h");
  logits = mpt_linear(model, "fc2", h, 3, nullptr);
  loss = mpt_cross_entropy(model, logits, y, nullptr);
  q = mpt_input(model, "q", MPT_FLOAT32, 3, sequence);
  indices = mpt_input(model, "indices", MPT_INT32, 1, row);
  mask = mpt_input(model, "mask", MPT_UINT8, 2, square);
  CALL(mpt_model_check(model));

  mpt_params_options params_options;
  CALL(mpt_params_options_init(&params_options, sizeof params_options));
  params_options.precision = MPT_PRECISION_FP16;
  CALL(mpt_params_create(&params, model, &params_options));
  mpt_optimizer_options optimizer_options;
  CALL(mpt_optimizer_options_init(&optimizer_options, sizeof optimizer_options));
  optimizer_options.average_decay = 0.5;
  optimizer_options.statistics_every = 1;
  CALL(mpt_optimizer_create(&optimizer, params, &optimizer_options));
  CALL(mpt_scaler_create(&scaler, context, nullptr));
  CALL(mpt_workspace_create(&workspace, context, nullptr));
  const char* const names[] = {"batch"};
  const int64_t two[] = {2};
  CALL(mpt_plan_create(&plan, params, 1, &loss, 1, names, two, nullptr));

  two_rows[0] = array_of("x", x_data, MPT_FLOAT32, 2, 2, 4);
  two_rows[1] = array_of("y", y_data, MPT_INT32, 1, 2);
  three_rows[0] = array_of("x", x_data, MPT_FLOAT32, 2, 3, 4);
  three_rows[1] = array_of("y", y_data, MPT_INT32, 1, 3);
  kept = array_of("h", h_data, MPT_FLOAT32, 2, 2, 4);
  predicted = array_of("h", h_data, MPT_FLOAT32, 2, 3, 4);
  weight = array_of("fc1.bias", numbers, MPT_FLOAT32, 1, 4);
  store_weight = array_of("w", numbers, MPT_FLOAT32, 1, 2);
  constant = array_of("table", numbers, MPT_FLOAT32, 1, 8);
  for (int i = 0; i < 3 * 4; ++i) x_data[i] = static_cast<float>(i % 5) - 2;

  mpt_trainer_options trainer_options;
  CALL(mpt_trainer_options_init(&trainer_options, sizeof trainer_options));
  trainer_options.workspace = workspace;
  CALL(mpt_trainer_create(&trainer, loss, params, optimizer, scaler, &trainer_options));
  CALL(mpt_trainer_keep(trainer, "h"));
  CALL(mpt_trainer_step(trainer, two_rows, 2, nullptr));
  CALL(mpt_trainer_create(&new_trainer, loss, params, optimizer, scaler, nullptr));

  CALL(mpt_params_create_empty(&store, context, nullptr));
  CALL(mpt_params_register(store, "w", 1, two, nullptr));
  CALL(mpt_params_allocate(store));
  optimizer_options.statistics_every = 0;
  CALL(mpt_optimizer_create(&store_optimizer, store, &optimizer_options));
  CALL(mpt_scaler_create(&store_scaler, context, nullptr));
  CALL(mpt_params_create_empty(&unfinished, context, nullptr));
  CALL(mpt_params_register(unfinished, "w", 1, two, nullptr));
}

void World::release_tensors() {
  if (tensor) tensor->deleter(tensor);
  if (versioned_tensor) versioned_tensor->deleter(versioned_tensor);
  tensor = nullptr;
  versioned_tensor = nullptr;
}

World::~World() {
  release_tensors();
  mpt_trainer_destroy(new_trainer);
  mpt_trainer_destroy(trainer);
  mpt_plan_destroy(plan);
  mpt_optimizer_destroy(store_optimizer);
  mpt_optimizer_destroy(optimizer);
  mpt_scaler_destroy(store_scaler);
  mpt_scaler_destroy(scaler);
  mpt_workspace_destroy(workspace);
  mpt_params_destroy(unfinished);
  mpt_params_destroy(store);
  mpt_params_destroy(params);
  mpt_model_destroy(model);
  mpt_context_destroy(context);
  for (const std::string& file : {checkpoint, saved, weights}) std::remove(file.c_str());
}

void* World::handle(const std::string& type) const {
  if (type == "mpt_context") return context;
  if (type == "mpt_model") return model;
  if (type == "mpt_params") return params;
  if (type == "mpt_workspace") return workspace;
  if (type == "mpt_scaler") return scaler;
  if (type == "mpt_optimizer") return optimizer;
  if (type == "mpt_plan") return plan;
  if (type == "mpt_trainer") return trainer;
  std::printf("a world has no %s: give it one\n", type.c_str());
  std::exit(1);
}

std::string World::state() const {
  static char text[1 << 16];
  CALL(mpt_model_dump(model, text, sizeof text, nullptr));
  std::string all = text;
  for (int32_t i = 0; i < mpt_params_count(params); ++i) {
    const char* name = mpt_params_name(params, i);
    mpt_array part{};
    CALL(mpt_params_tensor(params, name, MPT_PART_MASTER, &part));
    part.data = text;
    CALL(mpt_params_get(params, name, MPT_PART_MASTER, &part));
    uint64_t bytes = sizeof(float);
    for (int axis = 0; axis < part.rank; ++axis) bytes *= static_cast<uint64_t>(part.shape[axis]);
    all.append(text, bytes);
    CALL(mpt_optimizer_get_average(optimizer, name, &part));
    all.append(text, bytes);
  }
  mpt_scaler_state scaler_state;
  CALL(mpt_scaler_state_init(&scaler_state, sizeof scaler_state));
  CALL(mpt_scaler_get_state(scaler, &scaler_state));
  all.append(reinterpret_cast<const char*>(&scaler_state), sizeof scaler_state);
  double learning_rate;
  CALL(mpt_optimizer_learning_rate(optimizer, &learning_rate));
  return all + std::to_string(learning_rate);
}

void* World::result(const std::string& type) {
  const Struct& known = *find_struct(type);
  std::vector<unsigned char>& memory = results_[type];
  memory.assign(known.size, 0);
  if (known.init) require(known.init(memory.data(), known.size) == MPT_OK, type.c_str());
  return memory.data();
}

}  // namespace abi
