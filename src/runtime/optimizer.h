// Optimizers over a parameter store: moments, groups, schedule, clipping, weight average, and the update as one
// transaction.
//
// A step of one's own is step(). A trainer composes it from halves:
//
//   params.begin_gradients(scaler, slots);  backward pass
//   GradientCheck c = optimizer.check(scaler);
//   if (c.finite) optimizer.apply(c); else optimizer.skip();
//   scaler.commit(scaler.change(!c.finite, c.finite));
//
// With several backward passes before an update (micro-steps, objectives that share the optimizer):
//
//   optimizer.use_sums();                        once: FP32 sums of the unscaled gradients
//   optimizer.clear_sums();
//   for each pass:  params.begin_gradients(scaler, slots);  backward pass;
//                   GradientCheck own = optimizer.check(scaler);  only if each scaler must know its own gradients
//                   optimizer.gather(scaler);
//   GradientCheck c = optimizer.check_sums();    not finite if any pass was not
//
// None of these functions may be called inside Backend::execute(): they enter it themselves.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "io/metadata.h"
#include "runtime/device_memory.h"
#include "runtime/params.h"
#include "runtime/scaler.h"
#include "runtime/schedule.h"
#include "runtime/state_source.h"

namespace mpt {

struct GradientCheck {
  bool finite = true;
  double norm = 0;         // of the unscaled gradients, clipped by value, before clipping by norm; NaN if not finite
  int64_t non_finite = 0;  // elements
  int32_t slot = -1;       // of the first parameter with one
  int64_t element = -1;
  std::string text(
      const Params& params) const;  // "the gradient of 'fc1.weight' has 3 non-finite elements, the first ..."
};

struct UpdateReport {
  double learning_rate = 0;
  int64_t overflows_16bit = 0;
};

class Optimizer {
 public:
  // Options are checked, INVALID_ARGUMENT with `who` in front; the store must be allocated. struct_size is not looked
  // at.
  Optimizer(std::shared_ptr<Params> params, const mpt_optimizer_options& options,
            const char* who = "mpt_optimizer_create");
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  static mpt_optimizer_options default_options(mpt_optimizer_kind kind, const char* who);  // all but struct_size

  // Bytes of moments and averages, padded to 64 a tensor: what the constructor allocates, to the byte. The store need
  // not be allocated for it.
  static uint64_t planned_bytes(const Params& params, const mpt_optimizer_options& options);
  uint64_t state_bytes() const { return state_.bytes(); }
  // Bytes of FP32 gradient sums, where use_sums() was or will be called.
  uint64_t planned_sums_bytes() const;
  uint64_t sums_bytes() const { return sums_.bytes(); }

  const std::shared_ptr<Params>& params() const { return params_; }
  const std::vector<int32_t>& slots() const { return slots_; }  // trained, in order; frozen ones included
  bool trains(int32_t slot) const;                              // fits the pattern and is not frozen

  // ---- settings
  int32_t add_group(const std::string& pattern, const mpt_group_options& options, const char* who);  // how many fit
  void set_learning_rate(double learning_rate, const char* who);
  double learning_rate() const;  // of the next update: base times schedule
  uint64_t applied_steps() const {
    if (source_of_state_ != nullptr) source_of_state_->bring_home();
    return applied_steps_;
  }
  // Weight averages, FP32, in the device's memory. null where there are none or the slot is not trained.
  float* average(int32_t slot) const;
  const mpt_update_statistics& statistics() const { return statistics_; }

  // ---- a whole step, one transaction: on a skip nothing changes but the scaler. scaler null: the gradients carry
  // scale 1. Throws INVALID_STATE where the gradients don't carry the scaler's scale; NUMERIC by the scaler's skip
  // policy, and all is as before then. Fills all of `result` (may be null) but struct_size.
  void step(Scaler* scaler, mpt_step_result* result, const char* who = "mpt_optimizer_step");

  // ---- halves of a step
  // Finite check and norm of the gradients in the store; they must carry the scaler's scale of now.
  GradientCheck check(const Scaler* scaler, const char* who = "mpt_optimizer_step");
  // The update with what was checked last (gradients or sums), which must have been finite. Gradients and sums are used
  // up.
  UpdateReport apply(const GradientCheck& check);
  // The transaction that never happened: gradients and sums are dropped.
  void skip();

  void use_sums();                                                          // allocates them
  void clear_sums();                                                        // begins an update
  void gather(const Scaler* scaler, const char* who = "mpt_trainer_step");  // adds the unscaled gradients; uses them up
  GradientCheck check_sums();

  // ---- steps that a device decides on (backend/step_engine.h)
  StepRules step_rules(const ScalerRules& scaler, int32_t accumulation_steps) const;
  // The segments, those active whose parameter is in `gradient_slots` and not frozen. Lives as long as the optimizer.
  const FlatStore& store_for(const std::vector<int32_t>& gradient_slots);
  const OptimizerHyper& hyper() const { return hyper_; }
  double base_rate() const { return base_rate_; }
  bool has_averages() const { return average_decay_ > 0; }
  bool samples_statistics() const { return statistics_every_ > 0; }
  void follow(StateSource* source) { source_of_state_ = source; }  // null: nobody does
  StateSource* source_of_state() const { return source_of_state_; }
  void adopt(uint64_t applied_steps) { applied_steps_ = applied_steps; }  // by the source
  uint64_t version() const { return version_; }       // changes with every change that the host makes
  void report_overflows(const UpdateResult& result);  // logs what is new

  // The scaler that stands in where none is given: scale 1, counts skips.
  Scaler& scaler_off() { return scaler_off_; }

  // ---- checkpoint
  struct StateTensor {
    std::string name;  // "moment1.fc1.weight", "moment2..", "average.."
    Shape shape;
    float* data;  // FP32, in the device's memory, dense
  };
  std::vector<StateTensor> state_tensors() const;
  // Counters and what identifies the optimizer, as exact text with keys that begin with `prefix`.
  void export_state(const std::string& prefix, Metadata* out) const;
  struct Counters {
    uint64_t applied_steps = 0;
    double learning_rate = 0;
    ScalerNumbers scaler_off;
  };
  // Throws CORRUPT where a key is missing, INVALID_ARGUMENT where the file is of another kind of optimizer.
  Counters read_state(const std::string& prefix, const Metadata& from, const std::string& path) const;
  void set_state(const Counters& counters);  // after the tensors were written

 private:
  struct Group {
    std::string pattern;
    double learning_rate_factor;
    double weight_decay;  // negative: the optimizer's
    bool frozen;
  };
  enum class Source { none, gradients, sums };

  void build_segments();                                         // pointers and settings of all segments
  void select_gradients(const Scaler* scaler, const char* who);  // active segments, inverse scale
  void select_sums();
  void seed_averages();
  GradientCheck run_check();
  void forget_gradients();

  std::shared_ptr<Params> params_;
  OptimizerHyper hyper_;
  double base_rate_;
  double weight_decay_;
  double clip_norm_;
  double clip_value_;
  double average_decay_;
  int32_t statistics_every_;
  Schedule schedule_;
  std::vector<Group> groups_;
  std::vector<int32_t> slots_;
  std::vector<int32_t> index_;  // of a slot in slots_; -1
  std::vector<char> frozen_;    // by index
  uint64_t applied_steps_ = 0;
  Scaler scaler_off_;
  mpt_update_statistics statistics_{};

  FlatStore store_;
  uint64_t layout_ = 0;           // of the store that store_ was built for
  Source source_ = Source::none;  // what was checked last
  double inverse_scale_ = 1;
  int64_t overflows_reported_ = 0;
  uint64_t version_ = 0;
  StateSource* source_of_state_ = nullptr;

  DeviceMemory state_;
  std::vector<float*> moment1_, moment2_, average_;  // by index, null where there is none
  DeviceMemory sums_;
  std::vector<float*> sum_;   // by index
  std::vector<char> summed_;  // by index: holds something
};

}  // namespace mpt
