// A trainer's whole state in one safetensors file: weights under their own names, everything else under "mpt.".
#include <algorithm>

#include "io/checkpoint.h"
#include "runtime/trainer.h"

namespace mpt {
namespace {

constexpr const char* kind_key = "mpt.kind";
constexpr const char* kind_value = "trainer";
constexpr const char* objectives_key = "mpt.objectives";
constexpr const char* seed_key = "mpt.seed";

std::string optimizer_prefix(std::size_t index) { return "mpt.optimizer" + std::to_string(index) + "."; }
std::string scaler_prefix(std::size_t index) { return "mpt.scaler" + std::to_string(index) + "."; }

}  // namespace

std::vector<Optimizer*> Trainer::distinct_optimizers() const {
  std::vector<Optimizer*> found;
  for (const Objective& objective : objectives_)
    if (objective.optimizer && std::find(found.begin(), found.end(), objective.optimizer.get()) == found.end())
      found.push_back(objective.optimizer.get());
  return found;
}

void Trainer::save(const std::string& path) {
  if (micro_step_ != 0)
    fail(MPT_ERROR_INVALID_STATE, "%d of %d micro-steps were run: a checkpoint is made between updates", micro_step_,
         accumulation_steps_);
  Backend& backend = model_->context->backend();
  Metadata metadata;
  metadata[kind_key] = kind_value;
  metadata[objectives_key] = metadata_text(static_cast<uint64_t>(objectives_.size()));
  metadata[seed_key] = metadata_text(seed_);

  std::vector<CheckpointTensor> tensors;
  std::vector<std::vector<float>> host;  // what `tensors` points into
  host.reserve(static_cast<std::size_t>(params_->count()) * 4 * (objectives_.size() + 1));
  for (int32_t slot = 0; slot < params_->count(); ++slot) {
    const Parameter& parameter = params_->parameter(slot);
    host.emplace_back(static_cast<std::size_t>(parameter.count));
    params_->read_master(slot, host.back().data());
    tensors.push_back({parameter.name, DType::f32, parameter.shape, host.back().data()});
  }
  const std::vector<Optimizer*> optimizers = distinct_optimizers();
  for (std::size_t i = 0; i < optimizers.size(); ++i) {
    optimizers[i]->export_state(optimizer_prefix(i), &metadata);
    for (const Optimizer::StateTensor& state : optimizers[i]->state_tensors()) {
      host.emplace_back(static_cast<std::size_t>(state.shape.elements()));
      backend.copy_out(host.back().data(), state.data, host.back().size() * sizeof(float));
      tensors.push_back({optimizer_prefix(i) + state.name, DType::f32, state.shape, host.back().data()});
    }
  }
  for (std::size_t i = 0; i < objectives_.size(); ++i)
    if (objectives_[i].scaler) objectives_[i].scaler->export_state(scaler_prefix(i), &metadata);
  write_checkpoint(path, tensors, metadata);
}

void Trainer::load(const std::string& path) {
  const CheckpointReader reader(path);
  const auto kind = reader.metadata().find(kind_key);
  if (!reader.is_own() || kind == reader.metadata().end() || kind->second != kind_value)
    fail(MPT_ERROR_INVALID_ARGUMENT, "'%s' holds weights alone, not a trainer's checkpoint: use mpt_params_load",
         path.c_str());
  if (const uint64_t found = reader.uint64(objectives_key); found != objectives_.size())
    fail(MPT_ERROR_INVALID_ARGUMENT, "'%s' is of a trainer with %llu objectives, this one has %llu", path.c_str(),
         static_cast<unsigned long long>(found), static_cast<unsigned long long>(objectives_.size()));

  // Everything is read and checked before anything is changed.
  const std::vector<Optimizer*> optimizers = distinct_optimizers();
  std::vector<TensorExpectation> expected;
  for (int32_t slot = 0; slot < params_->count(); ++slot)
    expected.push_back({params_->parameter(slot).name, DType::f32, params_->parameter(slot).shape});
  std::vector<Optimizer::Counters> counters;
  std::vector<std::vector<Optimizer::StateTensor>> states;
  for (std::size_t i = 0; i < optimizers.size(); ++i) {
    counters.push_back(optimizers[i]->read_state(optimizer_prefix(i), reader.metadata(), path));
    states.push_back(optimizers[i]->state_tensors());
    for (const Optimizer::StateTensor& state : states[i])
      expected.push_back({optimizer_prefix(i) + state.name, DType::f32, state.shape});
  }
  const TensorDifferences differences = reader.compare(expected);
  if (!differences.empty())
    fail(MPT_ERROR_INVALID_ARGUMENT, "'%s' does not fit this trainer: %s", path.c_str(), differences.text().c_str());
  std::vector<ScalerNumbers> scalers;
  for (std::size_t i = 0; i < objectives_.size(); ++i)
    if (objectives_[i].scaler)
      scalers.push_back(objectives_[i].scaler->read_state(scaler_prefix(i), reader.metadata(), path));
  const uint64_t seed = reader.uint64(seed_key);
  std::vector<std::vector<float>> values;
  for (const TensorExpectation& tensor : expected) {
    values.emplace_back(static_cast<std::size_t>(tensor.shape.elements()));
    reader.read(tensor.name, DType::f32, tensor.shape, values.back().data());
  }

  // From here on nothing needs memory, so nothing can fail half-way.
  std::size_t next = 0;
  for (int32_t slot = 0; slot < params_->count(); ++slot) params_->write_master(slot, values[next++].data());
  Backend& backend = model_->context->backend();
  for (std::size_t i = 0; i < optimizers.size(); ++i) {
    for (const Optimizer::StateTensor& state : states[i]) {
      backend.copy_in(state.data, values[next].data(), values[next].size() * sizeof(float));
      ++next;
    }
    optimizers[i]->set_state(counters[i]);
  }
  next = 0;
  for (Objective& objective : objectives_)
    if (objective.scaler) objective.scaler->set_state(scalers[next++]);
  seed_ = seed;
  abandon_batch();
}

}  // namespace mpt
