// One valid call of every function of mpt.h, on a small world in which all kinds of handles live.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "api/dlpack_abi.h"
#include "table.h"

namespace abi {

// Everything that calls need. Two contexts' worth of memory is a few kilobytes, so that tests make many.
class World {
 public:
  explicit World(const mpt_allocator* allocator = nullptr);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // A handle of a type by its name ("mpt_model").
  void* handle(const std::string& type) const;
  // Fails the program with the message of the library.
  static void require(bool ok, const char* what);

  mpt_context* context = nullptr;
  mpt_model* model = nullptr;
  mpt_params* params = nullptr;  // FP16, of the model
  mpt_workspace* workspace = nullptr;
  mpt_scaler* scaler = nullptr;
  mpt_optimizer* optimizer = nullptr;  // of params
  mpt_plan* plan = nullptr;
  mpt_trainer* trainer = nullptr;      // has made a step; keeps "h"
  mpt_trainer* new_trainer = nullptr;  // has made none

  // A program's own gradients: FP32, allocated; and a store that is still being filled.
  mpt_params* store = nullptr;
  mpt_optimizer* store_optimizer = nullptr;  // with an average
  mpt_scaler* store_scaler = nullptr;
  mpt_params* unfinished = nullptr;

  // Tensors: x [batch, 4] -> h [batch, 4] -> logits [batch, 3], labels y [batch] -> loss; beside them q [batch, 2, 4] and
  // indices [batch] for ops that the loss doesn't have, and a uint8 mask [2, 2].
  mpt_tensor x, y, h, logits, loss, q, indices, mask;
  int64_t batch;

  // Data of calls.
  float x_data[3 * 4] = {}, h_data[3 * 4] = {}, numbers[8] = {1, 1, 1, 1, 1, 1, 1, 1};
  int32_t y_data[3] = {0, 1, 2};
  mpt_array two_rows[2], three_rows[2];  // inputs of a step: of a size that has a plan, of one that has none
  mpt_array kept, predicted, weight, store_weight, constant;
  // What a call writes.
  void* out = nullptr;
  double number = 0;
  int32_t integers[8] = {};
  int64_t sizes[8] = {};
  uint64_t bytes = 0;
  mpt_array array{};
  DLManagedTensor* tensor = nullptr;
  DLManagedTensorVersioned* versioned_tensor = nullptr;
  void release_tensors();  // that a call wrote
  char text[1 << 16];
  std::string checkpoint, saved, weights;  // files: the first and the last exist

  // What a failed call may not change: the model, master weights and averages, the scaler.
  std::string state() const;
  // A struct of results, initialised.
  void* result(const std::string& type);

 private:
  std::map<std::string, std::vector<unsigned char>> results_;
};

// How a function is called in a world.
struct Row {
  std::function<std::vector<Value>(World&)> arguments;
  std::function<void(World&)> prepare;  // what has to happen before each call; may be empty
};

// Null if there is none.
const Row* find_row(const std::string& function);
std::vector<std::string> rows_without_function();

// Destroys what a successful create function left in world.out.
void destroy_out(World& world, const Function& function);

}  // namespace abi
