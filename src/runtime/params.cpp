#include "runtime/params.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "io/checkpoint.h"
#include "io/convert.h"
#include "runtime/array_copy.h"
#include "runtime/host_array.h"

namespace mpt {
namespace {

constexpr int64_t staging = 16384;  // elements on their way between host and device

uint64_t tensor_bytes(const Parameter& p, DType dtype) {
  return padded_bytes(static_cast<uint64_t>(p.count) * size_of(dtype));
}

DType storage_of(mpt_precision precision) {
  return precision == MPT_PRECISION_FP16 ? DType::f16 : precision == MPT_PRECISION_BF16 ? DType::bf16 : DType::f32;
}

}  // namespace

Params::Params(std::shared_ptr<Backend> backend, ParamsConfig config)
    : backend_(std::move(backend)), config_(std::move(config)) {
  const char* who = "mpt_params_create";
  MPT_CHECK_ARGUMENT(config_.precision >= MPT_PRECISION_FP32 && config_.precision <= MPT_PRECISION_BF16,
                     "%s: precision: found %d, expected MPT_PRECISION_FP32, _FP16 or _BF16", who, config_.precision);
  MPT_CHECK_ARGUMENT(
      !config_.no_master || config_.precision != MPT_PRECISION_FP32,
      "%s: no_master: found precision fp32, expected fp16 or bf16: there is no 16-bit copy to train alone", who);
  const mpt_dtype wanted = config_.gradient_dtype;
  MPT_CHECK_ARGUMENT(wanted == 0 || wanted == MPT_FLOAT32 || wanted == static_cast<mpt_dtype>(storage_dtype()),
                     "%s: gradient_dtype: found %d, expected 0, MPT_FLOAT32 or the precision's type (%s)", who, wanted,
                     name_of(storage_dtype()));
  fp32_gradients_ = wanted == MPT_FLOAT32;
}

int32_t Params::add(const std::string& name, const Shape& shape, const InitializerInfo& initializer, bool keep_fp32) {
  if (allocated_)
    fail(MPT_ERROR_INVALID_STATE, "parameter '%s': found an allocated store, expected registration before that",
         name.c_str());
  MPT_CHECK_ARGUMENT(!name.empty(), "a parameter's name: found \"\", expected text");
  MPT_CHECK_ARGUMENT(name.compare(0, checkpoint_state_prefix.size(), checkpoint_state_prefix) != 0,
                     "parameter '%s': names that begin with '%s' are kept for the state in checkpoints", name.c_str(),
                     std::string(checkpoint_state_prefix).c_str());
  MPT_CHECK_ARGUMENT(slots_.count(name) == 0, "parameter '%s': found the name a second time, expected a new one",
                     name.c_str());
  for (int64_t size : shape)
    MPT_CHECK_ARGUMENT(size > 0, "parameter '%s': found shape %s, expected positive sizes", name.c_str(),
                       shape.text().c_str());
  check_initializer(initializer, name);
  Parameter p;
  p.name = name;
  p.shape = shape;
  p.count = shape.elements();
  p.keep_fp32 = keep_fp32;
  p.initializer = initializer;
  const auto slot = static_cast<int32_t>(parameters_.size());
  parameters_.push_back(std::move(p));
  slots_.emplace(name, slot);
  return slot;
}

void Params::use_buffers(int32_t slot, void* copy16, void* gradient) {
  Parameter& p = parameters_[slot];
  if (allocated_)
    fail(MPT_ERROR_INVALID_STATE, "buffers of '%s': found an allocated store, expected the call before that",
         p.name.c_str());
  MPT_CHECK_ARGUMENT(
      copy16 == nullptr || has_copy(p, config_.precision),
      "buffers of '%s': found a buffer for the 16-bit copy, expected NULL: the parameter is used in FP32",
      p.name.c_str());
  p.user_copy = copy16;
  p.user_gradient = gradient;
}

bool Params::has_copy(const Parameter& p, mpt_precision precision) const {
  return precision != MPT_PRECISION_FP32 && !p.keep_fp32;
}

bool Params::has_master(const Parameter& p, mpt_precision precision) const {
  return !has_copy(p, precision) || !config_.no_master;
}

DType Params::gradient_dtype(const Parameter& p, mpt_precision precision) const {
  return fp32_gradients_ || p.keep_fp32 ? DType::f32 : storage_of(precision);
}

ParamsBytes Params::planned_bytes() const { return planned_bytes(config_.precision); }

ParamsBytes Params::planned_bytes(mpt_precision precision) const {
  ParamsBytes bytes;
  for (const Parameter& p : parameters_) {
    if (has_master(p, precision)) bytes.master += tensor_bytes(p, DType::f32);
    if (has_copy(p, precision) && p.user_copy == nullptr) bytes.copy16 += tensor_bytes(p, storage_of(precision));
    if (p.user_gradient == nullptr) bytes.gradients += tensor_bytes(p, gradient_dtype(p, precision));
  }
  return bytes;
}

void Params::allocate() {
  if (allocated_) fail(MPT_ERROR_INVALID_STATE, "mpt_params_allocate: found an allocated store, expected one call");
  const ParamsBytes bytes = planned_bytes();
  DeviceMemory master(backend_, bytes.master), copy(backend_, bytes.copy16);
  std::vector<float*> masters;
  std::vector<void*> copies;
  uint64_t master_offset = 0, copy_offset = 0;
  for (const Parameter& p : parameters_) {
    masters.push_back(nullptr);
    copies.push_back(p.user_copy);
    if (has_master(p, config_.precision)) {
      masters.back() = master.at<float>(master_offset);
      master_offset += tensor_bytes(p, DType::f32);
    }
    if (has_copy(p, config_.precision) && p.user_copy == nullptr) {
      copies.back() = copy.at(copy_offset);
      copy_offset += tensor_bytes(p, storage_dtype());
    }
  }
  MPT_INVARIANT(master_offset == bytes.master && copy_offset == bytes.copy16);
  allocate_gradients();
  master_memory_ = std::move(master);
  copy_memory_ = std::move(copy);
  masters_ = std::move(masters);
  copies_ = std::move(copies);
  gradient_states_.assign(parameters_.size(), GradientState());
  allocated_ = true;
  try {
    initialize();
  } catch (...) {  // may be tried again
    allocated_ = false;
    master_memory_ = DeviceMemory();
    copy_memory_ = DeviceMemory();
    gradient_memory_ = DeviceMemory();
    throw;
  }
}

void Params::allocate_gradients() {
  const uint64_t bytes = planned_bytes().gradients;
  DeviceMemory memory(backend_, bytes);
  std::vector<void*> gradients;
  uint64_t offset = 0;
  for (const Parameter& p : parameters_) {
    gradients.push_back(p.user_gradient);
    if (p.user_gradient != nullptr) continue;
    gradients.back() = memory.at(offset);
    offset += tensor_bytes(p, gradient_dtype(p, config_.precision));
  }
  MPT_INVARIANT(offset == bytes);
  gradient_memory_ = std::move(memory);
  gradients_ = std::move(gradients);
  ++layout_;
}

void Params::require_fp32_gradients() {
  if (fp32_gradients_) return;
  bool changes = false;
  for (const Parameter& p : parameters_) {
    if (gradient_dtype(p, config_.precision) == DType::f32) continue;
    changes = true;
    if (p.user_gradient != nullptr)
      fail(MPT_ERROR_INVALID_STATE,
           "gradients of '%s': found a buffer of the caller's for %s, expected FP32: gradients are accumulated in FP32",
           p.name.c_str(), name_of(storage_dtype()));
  }
  fp32_gradients_ = true;
  if (!allocated_ || !changes) return;
  try {
    allocate_gradients();
  } catch (...) {
    fp32_gradients_ = false;
    throw;
  }
  discard_gradients();
}

void Params::initialize() {
  if (!backend_->executes()) return;
  std::vector<float> values(static_cast<std::size_t>(staging));
  for (int32_t slot = 0; slot < count(); ++slot) {
    const Parameter& p = parameters_[slot];
    for (int64_t begin = 0; begin < p.count; begin += staging) {
      const int64_t n = std::min(staging, p.count - begin);
      initial_values(p, config_.seed, begin, n, values.data());
      write_values(slot, begin, values.data(), n);
    }
  }
}

int32_t Params::find(const std::string& name) const {
  const auto found = slots_.find(name);
  return found == slots_.end() ? -1 : found->second;
}

int32_t Params::require(const std::string& name, const char* who) const {
  const int32_t slot = find(name);
  MPT_CHECK_ARGUMENT(slot >= 0, "%s: found name '%s', expected one of the store's %d parameters", who, name.c_str(),
                     count());
  return slot;
}

DType Params::storage_dtype() const { return storage_of(config_.precision); }

DType Params::dtype(int32_t slot, Part part) const {
  const Parameter& p = parameters_[slot];
  switch (part) {
    case Part::master:
      return has_fp32_master(slot) ? DType::f32 : storage_dtype();
    case Part::copy:
      return has_copy(p, config_.precision) ? storage_dtype() : DType::f32;
    case Part::gradient:
      return gradient_dtype(p, config_.precision);
  }
  return DType::f32;
}

void* Params::data(int32_t slot, Part part) const {
  require_allocated("parameters");
  const Parameter& p = parameters_[slot];
  switch (part) {
    case Part::master:
      return has_fp32_master(slot) ? masters_[slot] : copies_[slot];
    case Part::copy:
      return has_copy(p, config_.precision) ? copies_[slot] : masters_[slot];
    case Part::gradient:
      return gradients_[slot];
  }
  return nullptr;
}

bool Params::has_fp32_master(int32_t slot) const { return has_master(parameters_[slot], config_.precision); }

void Params::log(int32_t level, const std::string& text) const {
  if (config_.log) config_.log(level, text.c_str());
}

void Params::require_allocated(const char* who) const {
  if (!allocated_)
    fail(MPT_ERROR_INVALID_STATE, "%s: found a store without memory, expected mpt_params_allocate first", who);
}

void Params::get(int32_t slot, Part part, const mpt_array& array, const char* who) const {
  require_allocated(who);
  const Parameter& p = parameters_[slot];
  require_float_array(array, p.shape, who, p.name.c_str());
  const GradientState& state = gradient_states_[slot];
  const bool scaled = part == Part::gradient && !state.unscaled;
  const double scale = scaled && part == Part::gradient && device_scale_ ? device_scale_(slot) : state.scale;
  const float factor = scaled ? static_cast<float>(1 / scale) : 1.0f;
  if (on_device(array)) {
    backend_->convert(with_strides(array), dense_array(data(slot, part), dtype(slot, part), p.shape), factor);
    return;
  }
  copy_to_array(*backend_, data(slot, part), dtype(slot, part), p.shape, factor, array);
}

void Params::set(int32_t slot, const mpt_array& array, const char* who) {
  require_allocated(who);
  const Parameter& p = parameters_[slot];
  require_float_array(array, p.shape, who, p.name.c_str());
  if (on_device(array)) {
    const mpt_array from = with_strides(array);
    backend_->convert(dense_array(data(slot, Part::master), dtype(slot, Part::master), p.shape), from, 1);
    if (masters_[slot] != nullptr && copies_[slot] != nullptr)
      backend_->convert(dense_array(copies_[slot], storage_dtype(), p.shape),
                        dense_array(masters_[slot], DType::f32, p.shape), 1);
    return;
  }
  const bool fp32 = has_fp32_master(slot);
  const bool f16 = storage_dtype() == DType::f16;
  for (ArrayReader reader(array); reader.next();)
    for (int64_t i = 0; i < reader.count(); ++i) {
      const float x = reader.values()[i];
      const long long element = static_cast<long long>(reader.begin() + i);
      MPT_CHECK_ARGUMENT(is_finite(x), "%s: '%s': found %g at element %lld, expected finite FP32 numbers", who,
                         p.name.c_str(), static_cast<double>(x), element);
      MPT_CHECK_ARGUMENT(
          fp32 || !(f16 ? overflows_f16(x) : overflows_bf16(x)),
          "%s: '%s': found %g at element %lld, expected numbers that are finite in %s: there is no master", who,
          p.name.c_str(), static_cast<double>(x), element, name_of(storage_dtype()));
    }
  for (ArrayReader reader(array); reader.next();) write_values(slot, reader.begin(), reader.values(), reader.count());
}

void Params::write_values(int32_t slot, int64_t begin, const float* values, int64_t count) {
  const auto n = static_cast<uint64_t>(count);
  if (masters_[slot] != nullptr) backend_->copy_in(masters_[slot] + begin, values, n * sizeof(float));
  if (copies_[slot] == nullptr) return;
  uint16_t rounded[ArrayReader::block];
  for (int64_t done = 0; done < count; done += ArrayReader::block) {
    const int64_t part = std::min(ArrayReader::block, count - done);
    convert_elements(DType::f32, values + done, storage_dtype(), rounded, static_cast<std::size_t>(part));
    backend_->copy_in(static_cast<uint16_t*>(copies_[slot]) + begin + done, rounded, static_cast<uint64_t>(part) * 2);
  }
}

void Params::read_master(int32_t slot, float* to) const {
  const Parameter& p = parameters_[slot];
  mpt_array array{};
  array.data = to;
  array.dtype = MPT_FLOAT32;
  array.rank = p.shape.rank();
  std::copy(p.shape.begin(), p.shape.end(), array.shape);
  copy_to_array(*backend_, data(slot, Part::master), dtype(slot, Part::master), p.shape, 1, array);
}

void Params::write_master(int32_t slot, const float* from) {
  require_allocated("parameters");
  write_values(slot, 0, from, parameters_[slot].count);
}

void Params::refresh() {
  require_allocated("mpt_params_refresh");
  const FlatStore store = flat_store();
  execute_on(*backend_, [&] { backend_->round_copies(store); });
}

void Params::begin_gradients(const Scaler* scaler, const std::vector<int32_t>* slots) {
  require_allocated("gradients");
  GradientState state;
  if (scaler != nullptr) {
    state.scale = scaler->scale();
    state.scaler = scaler->id();
    state.epoch = scaler->epoch();
  }
  device_scale_ = nullptr;
  state.present = slots == nullptr;
  gradient_states_.assign(parameters_.size(), state);
  if (slots == nullptr) return;
  for (const int32_t slot : *slots) gradient_states_[slot].present = true;
}

void Params::discard_gradients() {
  for (GradientState& state : gradient_states_) state.present = false;
}

void Params::unscale_gradients(const Scaler& scaler, const char* who) {
  require_allocated(who);
  FlatStore store = flat_store();
  std::vector<float*> targets(store.segments.size());
  bool any = false;
  for (int32_t slot = 0; slot < count(); ++slot) {
    const GradientState& state = gradient_states_[slot];
    const char* name = parameters_[slot].name.c_str();
    store.segments[slot].active = state.present;
    targets[slot] = static_cast<float*>(gradients_[slot]);
    if (!state.present) continue;
    any = true;
    if (state.unscaled)
      fail(MPT_ERROR_INVALID_STATE, "%s: the gradient of '%s' is unscaled already, expected one that carries the scale",
           who, name);
    if (state.scaler != scaler.id() || state.epoch != scaler.epoch())
      fail(MPT_ERROR_INVALID_STATE,
           "%s: the gradient of '%s' carries the scale %g of another scaler or of before its last update, expected "
           "that of"
           " now",
           who, name, state.scale);
    if (store.segments[slot].gradient_dtype != DType::f32)
      fail(MPT_ERROR_UNSUPPORTED,
           "%s: the gradient of '%s' is %s, expected float32: dividing would lose what scaling saved", who, name,
           name_of(store.segments[slot].gradient_dtype));
  }
  if (!any)
    fail(MPT_ERROR_INVALID_STATE, "%s: found no gradients, expected mpt_scaler_begin and a backward pass before", who);
  execute_on(*backend_, [&] {
    backend_->accumulate_gradients(store, targets.data(), static_cast<float>(scaler.inverse_scale()), true);
  });
  for (GradientState& state : gradient_states_)
    if (state.present) state.unscaled = true;
}

FlatStore Params::flat_store() const {
  require_allocated("parameters");
  FlatStore store;
  for (int32_t slot = 0; slot < count(); ++slot) {
    Segment s;
    s.count = parameters_[slot].count;
    s.master = masters_[slot];
    s.copy16 = copies_[slot];
    s.gradient = gradients_[slot];
    s.copy_dtype = dtype(slot, Part::copy);
    s.gradient_dtype = dtype(slot, Part::gradient);
    store.segments.push_back(s);
  }
  store.split();
  return store;
}

}  // namespace mpt
