// The parameter store: FP32 master weights, their 16-bit copies, gradients, and what each gradient is.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/dtype.h"
#include "core/shape.h"
#include "graph/graph.h"
#include "runtime/device_memory.h"
#include "runtime/scaler.h"

namespace mpt {

using LogFunction = std::function<void(int32_t level, const char* text)>;

struct ParamsConfig {
  mpt_precision precision = MPT_PRECISION_FP32;
  bool no_master = false;        // ablation: 16-bit weights only
  mpt_dtype gradient_dtype = 0;  // 0: the precision's; MPT_FLOAT32
  uint64_t seed = 0;             // of initialisers
  LogFunction log;               // may be empty
};

// Parts of a parameter, by the public numbers; the average is the optimizer's.
enum class Part : int32_t { master = MPT_PART_MASTER, copy = MPT_PART_COPY16, gradient = MPT_PART_GRADIENT };

struct Parameter {
  std::string name;
  Shape shape;
  int64_t count = 0;  // elements
  bool keep_fp32 = false;
  InitializerInfo initializer;
  void* user_copy = nullptr;  // buffers of the caller's
  void* user_gradient = nullptr;
};

// What a gradient buffer holds: gradients of scale * loss for the scale that `scaler` had at `epoch`.
struct GradientState {
  bool present = false;   // false: no gradient in this step, the parameter is left alone
  bool unscaled = false;  // divided by the scale already
  double scale = 1;
  uint64_t scaler = 0;  // Scaler::id(); 0: none, scale 1
  uint64_t epoch = 0;
};

struct ParamsBytes {
  uint64_t master = 0, copy16 = 0, gradients = 0;
};

class Params {
 public:
  Params(std::shared_ptr<Backend> backend, ParamsConfig config);
  Params(const Params&) = delete;
  Params& operator=(const Params&) = delete;

  // ---- registration: until allocate(). Returns the slot: parameters are numbered in order of registration.
  int32_t add(const std::string& name, const Shape& shape, const InitializerInfo& initializer, bool keep_fp32);
  void use_buffers(int32_t slot, void* copy16, void* gradient);  // null: the store's own memory
  // Weight gradients are FP32 from now on, for gradient accumulation. An allocated store gets new gradient memory: what
  // it held is lost and pointers to gradients are void. INVALID_STATE where a buffer of the caller's has the wrong
  // type.
  void require_fp32_gradients();
  // Of all classes, padded to 64 bytes a tensor: what allocate() allocates, to the byte. Buffers of the caller's are
  // not in it.
  ParamsBytes planned_bytes() const;
  // The same store in another precision, for reports.
  ParamsBytes planned_bytes(mpt_precision precision) const;
  void allocate();  // and initialise
  bool allocated() const { return allocated_; }

  // ---- what there is
  int32_t count() const { return static_cast<int32_t>(parameters_.size()); }
  const Parameter& parameter(int32_t slot) const { return parameters_[slot]; }
  int32_t find(const std::string& name) const;                      // slot, -1 where there is none
  int32_t require(const std::string& name, const char* who) const;  // throws INVALID_ARGUMENT with `who` in front
  const ParamsConfig& config() const { return config_; }
  DType storage_dtype() const;  // of the precision
  DType dtype(int32_t slot, Part part) const;
  void* data(int32_t slot, Part part) const;  // device pointer; master of a no_master parameter: the 16-bit weights
  bool has_fp32_master(int32_t slot) const;
  const std::shared_ptr<Backend>& backend() const { return backend_; }
  uint64_t layout() const { return layout_; }  // changes when pointers do
  void log(int32_t level, const std::string& text) const;

  // ---- access from the host; none of these may be called inside Backend::execute()
  // Copies into `array`, converted to its dtype; strides are heeded, the shape must be the parameter's. Gradients are
  // divided by the scale they carry.
  void get(int32_t slot, Part part, const mpt_array& array, const char* who) const;
  // Sets a weight and its 16-bit copy from any float dtype. Non-finite values, and with no_master values beyond the
  // 16-bit range, are INVALID_ARGUMENT before anything is changed.
  void set(int32_t slot, const mpt_array& array, const char* who);
  // The same between a dense host buffer of FP32 and a weight with its copy, for checkpoints: all bits are kept,
  // nothing is refused.
  void read_master(int32_t slot, float* to) const;
  void write_master(int32_t slot, const float* from);
  // Rounds all masters to the 16-bit copies anew.
  void refresh();

  // ---- gradients
  // Says that backward passes write gradients of scaler.scale() * loss (null: of the loss) to these slots (null: all).
  // What the others hold is nothing: parameters without a gradient are left alone.
  void begin_gradients(const Scaler* scaler, const std::vector<int32_t>* slots = nullptr);
  void discard_gradients();  // nothing is present
  // The gradients are a device's that decides for itself: the scale of a slot's gradient is asked for when it is read.
  // Until the next begin_gradients(); null: nobody's.
  void ask_for_scale(std::function<double(int32_t slot)> scale) { device_scale_ = std::move(scale); }
  // Divides FP32 gradients by their scale in place. INVALID_STATE when done twice or without begin_gradients, or when
  // the scale has changed since; UNSUPPORTED for 16-bit gradients.
  void unscale_gradients(const Scaler& scaler, const char* who);
  GradientState& gradient_state(int32_t slot) { return gradient_states_[slot]; }
  const GradientState& gradient_state(int32_t slot) const { return gradient_states_[slot]; }

  // Segments of all slots without optimizer state, in order of slots.
  FlatStore flat_store() const;

 private:
  bool has_copy(const Parameter& p, mpt_precision precision) const;
  bool has_master(const Parameter& p, mpt_precision precision) const;
  DType gradient_dtype(const Parameter& p, mpt_precision precision) const;
  void allocate_gradients();
  void initialize();
  void require_allocated(const char* who) const;
  void write_values(int32_t slot, int64_t begin, const float* values, int64_t count);

  std::shared_ptr<Backend> backend_;
  ParamsConfig config_;
  std::vector<Parameter> parameters_;
  std::map<std::string, int32_t> slots_;
  std::vector<GradientState> gradient_states_;
  std::function<double(int32_t)> device_scale_;
  bool fp32_gradients_ = false;
  bool allocated_ = false;
  uint64_t layout_ = 0;
  DeviceMemory master_memory_, copy_memory_, gradient_memory_;
  std::vector<float*> masters_;  // by slot; null where there is none
  std::vector<void*> copies_;
  std::vector<void*> gradients_;
};

// Fans of a weight from its shape: [out, in, rest..] has fan_in = in * rest, fan_out = out * rest (PyTorch's rule).
void set_fans(const Shape& shape, InitializerInfo* initializer);

// params_init.cpp: the initial values of elements [begin, begin + count) of a parameter, a function of seed, name and
// position.
void initial_values(const Parameter& parameter, uint64_t seed, int64_t begin, int64_t count, float* out);
// Throws INVALID_ARGUMENT for unknown initialisers and numbers that are not finite or make no distribution.
void check_initializer(const InitializerInfo& initializer, const std::string& parameter);

}  // namespace mpt
