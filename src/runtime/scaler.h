// The loss scaler: kernels/numerics/scaler.h behind checked options.
#pragma once

#include <cstdint>
#include <string>

#include "io/metadata.h"
#include "kernels/numerics/scaler.h"
#include "runtime/state_source.h"

namespace mpt {

class Scaler {
 public:
  // Throws INVALID_ARGUMENT for numbers that make no scaler; factors and scales must be powers of two. struct_size is
  // not looked at. `who` begins the message.
  explicit Scaler(const mpt_scaler_options& options, const char* who = "mpt_scaler_create");
  // Scale 1 for ever: for precisions that need no scaling. Non-finite gradients still skip the update.
  static mpt_scaler_options off_options();

  double scale() const { return numbers().scale; }
  double inverse_scale() const { return 1 / numbers().scale; }  // exact
  uint64_t epoch() const { return numbers().epoch; }
  uint64_t id() const { return id_; }  // of this object, never 0 and never used again
  const ScalerNumbers& numbers() const {
    if (source_ != nullptr) source_->bring_home();
    return numbers_;
  }
  const ScalerRules& rules() const { return rules_; }
  int32_t skip_policy() const { return skip_policy_; }
  void describe(mpt_scaler_state* out) const;  // all but struct_size

  // What an update would make of the scale, without doing it: so that a step which ends in an error changes nothing.
  // overflowed: the gradients that carried this scale were not finite. applied: the update was made.
  struct Change {
    ScalerNumbers numbers;
    bool limit_reached;  // too many skips in a row at the floor: the skip policy applies
  };
  Change change(bool overflowed, bool applied) const;
  // Once for each update, after it: never before the gradients are unscaled.
  void commit(const Change& change) { set_state(change.numbers); }

  // Exact state as text, keys begin with `prefix`; import throws CORRUPT where a key is missing or no number, and
  // changes nothing then. Gradients that carry an older scale must be discarded by the caller.
  void export_state(const std::string& prefix, Metadata* out) const;
  ScalerNumbers read_state(const std::string& prefix, const Metadata& from, const std::string& path) const;
  void set_state(const ScalerNumbers& numbers) {
    numbers_ = numbers;
    ++version_;
  }

  // ---- a device that changes the scale itself
  void follow(StateSource* source) { source_ = source; }  // null: nobody does
  StateSource* source() const { return source_; }
  void adopt(const ScalerNumbers& numbers) { numbers_ = numbers; }  // by the source
  uint64_t version() const { return version_; }                     // changes with every change that the host makes

 private:
  uint64_t id_;
  ScalerRules rules_;
  int32_t skip_policy_;
  ScalerNumbers numbers_;
  uint64_t version_ = 0;
  StateSource* source_ = nullptr;
};

// A power of two that FP32 can represent as a normal number, and its inverse too.
bool is_power_of_two(double x);

}  // namespace mpt
